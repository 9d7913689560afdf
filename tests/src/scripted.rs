//! A small server of no protocol but lines, which logs everything that reaches it: what a wrapper let through is seen from behind.

use crate::server::Builder;

impl Builder {
    /// Makes `./scripted`: it logs `scripted: started tls=PROTOCOL`, each line as `scripted: saw <LINE>` and `scripted: ended` at the end
    /// of what it reads; it answers EHLO (with extensions), AUTH (235), DATA (up to the dot) and QUIT, and anything else with `250 LINE`.
    pub fn scripted(self) -> Builder {
        self.scripted_with("")
    }

    /// The same, with `arms` of a shell's `case $line in` that come first; `say` prints lines, `log` logs one.
    pub fn scripted_with(self, arms: &str) -> Builder {
        self.folder.script("scripted", &SCRIPT.replace("ARMS", arms));
        self
    }
}

const SCRIPT: &str = r#"#!/bin/sh
say() { printf '%s\r\n' "$@"; }
log() { echo "scripted: $*" >&2; }
trap '' PIPE
log "started tls=${SSL_PROTOCOL:-none}"
say '220 scripted'
while IFS= read -r line; do
  line=${line%?}
  log "saw <$line>"
  case $line in
    ARMS
    EHLO*) say 250-scripted 250-PIPELINING 250-STARTTLS '250-AUTH PLAIN LOGIN' 250-REQUIRETLS 250 ;;
    AUTH*) say '235 welcome' ;;
    DATA)
      say '354 go ahead'
      while IFS= read -r line && [ "$line" != "$(printf '.\r')" ]; do log "body <${line%?}>"; done
      say '250 queued' ;;
    QUIT) say '221 bye'; break ;;
    *) say "250 $line" ;;
  esac
done
log ended
"#;
