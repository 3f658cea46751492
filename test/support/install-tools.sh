#!/bin/sh
# Installs what the tests use and this machine lacks. Only as root and only with apt; anywhere else the tests that need it say so and skip.
set -eu

missing=""
command -v sqlite3 >/dev/null 2>&1 || missing="$missing sqlite3"
command -v python3 >/dev/null 2>&1 || missing="$missing python3"
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
[ -x /usr/bin/chromium ] || [ -x /usr/bin/chromium-browser ] || [ -x /usr/bin/google-chrome ] || missing="$missing chromium"
command -v mkfs.ext4 >/dev/null 2>&1 || missing="$missing e2fsprogs"
if ! ldconfig -p 2>/dev/null | grep -q 'libfuse\.so\.2'; then
  missing="$missing libfuse2"
fi
# etcd would be started on its well-known port; the tests start their own.
command -v etcd >/dev/null 2>&1 || missing="$missing etcd-server"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
# The judges of the smuggling tests. Their packages would start servers on well-known ports; the tests start their own.
command -v haproxy >/dev/null 2>&1 || [ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "Tests will skip what needs:$missing" >&2
  exit 0
fi
echo "Installing for the tests:$missing"
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq || echo "apt-get update failed; trying with the lists that are there" >&2
for package in $missing; do
  # Newer Debian releases carry libfuse 2 under another name.
  if ! apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1; then
    [ "$package" = libfuse2 ] && apt-get install -y -qq --no-install-recommends libfuse2t64 >/dev/null 2>&1 || echo "Cannot install $package; tests that need it skip" >&2
  fi
done
