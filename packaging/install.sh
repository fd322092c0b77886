#!/bin/sh
# Builds coracle and installs it, its man pages and its shell completions.
#   packaging/install.sh [PREFIX]      default ~/.local; DESTDIR is put before it, for packagers
set -eu
cd "$(dirname "$0")/.."
prefix=${1:-$HOME/.local}
to=${DESTDIR:-}$prefix

cargo build --release --locked
binary=$(ls -t target/*/release/coracle | head -n 1)
install -D -m 755 "$binary" "$to/bin/coracle"
for page in man/*.1; do install -D -m 644 "$page" "$to/share/man/man1/$(basename "$page")"; done
install -D -m 644 completions/coracle.bash "$to/share/bash-completion/completions/coracle"
install -D -m 644 completions/_coracle "$to/share/zsh/site-functions/_coracle"
install -D -m 644 completions/coracle.fish "$to/share/fish/vendor_completions.d/coracle.fish"
echo "installed $to/bin/coracle"
case ":$PATH:" in *":$prefix/bin:"*) ;; *) echo "note: $prefix/bin is not on your PATH" ;; esac
