#!/bin/sh
# Unpacks foreign mail servers from Debian's packages below target/peers, for the chain tests: nothing is installed, nothing started.
# Each folder holds the package, what it needs of libraries that are not installed, and .complete once it is whole.
# Ends with 1 and a line for each package that cannot be had.
set -u
cd "$(dirname "$0")/.." || exit 111
peers=$PWD/target/peers
mkdir -p "$peers" || exit 111

# The libraries that a package names as its needs and that this system does not have.
libraries() {
  apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$1" |
    sed -n 's/^ *|\{0,1\}\(Pre\)\{0,1\}Depends: \(lib[^ <>]*\)$/\2/p' |
    while read -r library; do
      case $(dpkg-query -W -f '${Status}' "$library" 2>/dev/null) in
        *' installed') ;;
        *) echo "$library"; libraries "$library" ;;
      esac
    done
}

unpack() { # unpack FOLDER PACKAGE...
  folder=$peers/$1
  shift
  [ -e "$folder/.complete" ] && return
  rm -rf "$folder" && mkdir -p "$folder/deb" || return
  # shellcheck disable=SC2046 # package names hold no blanks
  set -- "$@" $(for package in "$@"; do libraries "$package"; done | sort -u)
  (cd "$folder/deb" && apt-get download -q "$@" >apt.log 2>&1) || { tail -n 3 "$folder/deb/apt.log" >&2; return 1; }
  for package in "$folder"/deb/*.deb; do
    dpkg -x "$package" "$folder" || return
  done
  rm -r "$folder/deb" && echo "$*" >"$folder/.complete"
}

missing=0
get() {
  unpack "$@" || { echo "peers: cannot have $1 (is apt-get update due?)" >&2; missing=1; }
}

get mailfront mailfront cvm
# Exim looks its user up by name; libnss-wrapper shows it one without touching /etc/passwd.
get exim4 exim4-daemon-light exim4-base libnss-wrapper
get postfix postfix
# A regular expression is as good as the program that reads it.
get fail2ban fail2ban
# Measured beside greylist.
get postgrey postgrey
exit "$missing"
