# shellcheck shell=sh
# Sourced by ./check and ./demo: what they need beyond Rust, installed where that is allowed.

# The Debian packages of the programs that are missing, each given as PROGRAM:PACKAGE, and of missing files, as /PATH:PACKAGE.
missing_packages() {
  for need in "$@"; do
    command -v "${need%%:*}" >/dev/null || [ -e "${need%%:*}" ] || echo "${need#*:}"
  done
  # Only this one of Debian's two tcpservers speaks IPv6.
  case $(tcpserver 2>&1) in *'[ -46'*) ;; *) echo ucspi-tcp-ipv6 ;; esac
  perl -MNet::SSLeay -e1 2>/dev/null || echo libnet-ssleay-perl
  # gcc only recommends it.
  case $(cc -print-file-name=libc.a 2>&1) in /*) ;; *) echo libc6-dev ;; esac
}

# Installs the packages of the missing programs, or tells what to type and ends.
need() {
  packages=$(missing_packages "$@" | sort -u | tr '\n' ' ')
  [ -n "$packages" ] || return 0
  install="apt-get install -y --no-remove --no-install-recommends $packages"
  case $(id -u) in
    0) sudo= ;;
    *) sudo="sudo -n" ;;
  esac
  # shellcheck disable=SC2086 # a command line of several words
  command -v apt-get >/dev/null && DEBIAN_FRONTEND=noninteractive $sudo $install && return 0
  echo "$0: these Debian packages are missing: $packages" >&2
  echo "$0: type this (nothing is removed by it), then $0 again:" >&2
  echo "  sudo apt-get update && sudo $install" >&2
  exit 100
}

# A Rust that is new enough, or a word on where to get it and the end.
need_rust() {
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  have=$(cargo --version 2>/dev/null) || have='cargo 0'
  have=${have#cargo } && have=${have%% *}
  printf '%s\n' "$wanted" "$have" | sort -CV && return 0
  [ "$have" = 0 ] && have='no cargo at all'
  echo "$0: needs Rust $wanted or newer (found: $have); see https://rustup.rs" >&2
  exit 100
}

# Builds what cargo's options name as it is to be installed, static, and sets $bin to its folder.
build_release() {
  host=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target "$host" "$@"
  # shellcheck disable=SC2034 # read by who sourced this
  bin=${CARGO_TARGET_DIR:-$PWD/target}/$host/release
}
