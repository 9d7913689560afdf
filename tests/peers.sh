#!/bin/sh
# Unpacks foreign mail servers from Debian's packages and foreign TLS clients from PyPI's below target/peers, for the chain tests:
# nothing is installed, nothing started.
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

wheel() { # wheel FOLDER PACKAGE [PIP OPTION...]
  folder=$peers/$1
  [ -e "$folder/.complete" ] && return
  rm -rf "$folder"
  name=$2
  shift 2
  if python3 -m pip install -q --target "$folder" --prefer-binary "$@" "$name" >"$peers/pip.log" 2>&1; then
    return
  fi
  tail -n 3 "$peers/pip.log" >&2
  echo "peers: cannot have $name" >&2
  missing=1
  return 1
}

# Under the names that Debian's openssl looks for.
openssl_libraries() {
  [ -e "$peers/openssl/.complete" ] && return
  mkdir -p "$peers/openssl/lib"
  for library in "$peers"/openssl/psycopg2_binary.libs/lib*; do
    case ${library##*/} in
      libssl-*) cp "$library" "$peers/openssl/lib/libssl.so.3" ;;
      libcrypto-*) cp "$library" "$peers/openssl/lib/" && cp "$library" "$peers/openssl/lib/libcrypto.so.3" ;;
    esac
  done
  [ -e "$peers/openssl/lib/libssl.so.3" ] && touch "$peers/openssl/.complete"
}

get mailfront mailfront cvm
# Exim looks its user up by name; libnss-wrapper shows it one without touching /etc/passwd.
get exim4 exim4-daemon-light exim4-base libnss-wrapper
get postfix postfix
# A regular expression is as good as the program that reads it.
get fail2ban fail2ban
# Measured beside greylist.
get postgrey postgrey
wheel sslyze sslyze==6.3.1 && touch "$peers/sslyze/.complete"
# It brings the libraries of OpenSSL 3.5, which Debian does not have yet.
wheel openssl psycopg2-binary==2.9.13 --only-binary :all: --no-deps && openssl_libraries
exit "$missing"
