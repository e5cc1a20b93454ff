#!/usr/bin/env bash
# A container engine for the tests, on a Debian 12 machine that reaches no container registry.
#
#   tests/images/engine.sh can     exit 0 if this machine can run one; else say why not, exit 1
#   tests/images/engine.sh up      start it, unless it is up, and load a stand-in for python:3.11-slim
#   eval "$(tests/images/engine.sh env)"    docker, cosign, docker-registry and docker-py use it
#   tests/images/engine.sh down    stop it; remove its containers, networks, bridge, firewall rules
#
# ENGINE=trixie (default) is Docker 26.1 with the containerd image store, ENGINE=bookworm Docker 20.10.
# Both, and the command line with buildx and compose, are Debian packages unpacked below STATE: no
# service of the system is installed. STATE (~/.cache/pipcook-deploy-engine) keeps what was downloaded,
# images and logs (up.log, dockerd.log) for the next `up`; after `down` it can be deleted.
# PYTHON is the CPython 3.11 that is copied into the stand-in.
#
# Other engines may run beside it. They share Docker's firewall chains, and each one that starts
# empties them: so this one leaves them alone, has three rules and a bridge of its own in a free
# private network, and publishes ports through docker-proxy. Its networks can reach each other.
# shellcheck disable=SC2016 # what is quoted so is for apt-get, mmdebstrap or the caller's shell to expand
set -euo pipefail

STATE=${STATE:-${XDG_CACHE_HOME:-${HOME:-~}/.cache}/pipcook-deploy-engine}
[[ $STATE == /* ]] || STATE=$PWD/$STATE
ENGINE=${ENGINE:-trixie}
RUN=$STATE/run               # what is true of this boot only
NEW=$STATE/trixie/usr        # the command line and the newer engine
BASE=python:3.11-slim
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

environment() {
  printf 'unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH\n'
  printf 'export DOCKER_HOST=unix://%q\n' "$RUN/docker.sock"
  printf 'export DOCKER_CONFIG=%q\n' "$STATE/config"
  printf 'export PATH=%q:%s\n' "$NEW/bin" '"$PATH"'
}

# --- can ------------------------------------------------------------------------------------------

# Builtins only: it must be able to say that a program is missing.
lacks() {
  local word value capabilities=0 release=''
  [[ $OSTYPE == linux* ]] || { say Linux; return; }
  # shellcheck disable=SC1091
  [[ -r /etc/os-release ]] && release=$(source /etc/os-release && say "${VERSION_CODENAME-}")
  [[ $release == bookworm ]] || { say 'Debian 12 (bookworm)'; return; }
  ((EUID == 0)) || { say root; return; }
  command -v apt-get >/dev/null || { say apt-get; return; }
  while read -r word value; do
    [[ $word != CapEff: ]] || capabilities=0x$value
  done </proc/self/status
  ((capabilities >> 12 & 1)) || { say 'the capability CAP_NET_ADMIN'; return; }
  ((capabilities >> 21 & 1)) || { say 'the capability CAP_SYS_ADMIN'; return; }
  [[ $(</proc/filesystems) == *overlay* ]] || say 'overlayfs: modprobe overlay'
}

can() {
  local lacking
  lacking=$(lacks)
  [[ $lacking ]] || return 0
  say "no container engine for the tests: it needs $lacking"
  return 1
}

# --- packages -------------------------------------------------------------------------------------

# Where this machine gets Debian from, one line of sources.list for each of its suites.
debian() {
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) main' 'Created-By: Packages' 'Component: main' |
    grep -E ' bookworm(-updates|-security)? main$' | sort -u
}

install_missing() {
  local package missing=()
  local wanted=(apache2-utils buildah iproute2 iptables mmdebstrap netavark podman)
  [[ $ENGINE == bookworm ]] && wanted+=(libdevmapper1.02.1)
  for package in "${wanted[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local apt=(apt-get -q -y -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "${missing[@]}"
}

# unpack SUITE FOLDER PACKAGE...: beside the system. Go programs of trixie need no newer libc than bookworm's.
unpack() {
  local suite=$1 into=$2 work=$STATE/fetch mirror deb
  shift 2
  [[ -f $into/.packages && $(<"$into/.packages") == "$*" ]] && return
  rm -rf "$work" "$into"
  mkdir -p "$work"/{lists,archives}/partial "$into"
  mirror=$(debian | awk '$3 == "bookworm" { print $2; exit }')
  [[ $mirror ]] || die 'apt has no source for "bookworm main"'
  say "deb [signed-by=$KEYRING] $mirror $suite main" >"$work/sources.list"
  local apt=(apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=-
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work" -o APT::Sandbox::User=root)
  "${apt[@]}" update
  (cd "$work" && "${apt[@]}" download "$@")
  for deb in "$work"/*.deb; do dpkg -x "$deb" "$into"; done
  say "$*" >"$into/.packages"
  rm -rf "$work"
}

# --- the stand-in for python:3.11-slim ------------------------------------------------------------

# Where a CPython 3.11 is in a folder of its own, as in the official image; nothing if only Debian's is
# there: then the stand-in has that one.
python_prefix() {
  local python
  for python in "${PYTHON:-python3}" python3.11 python3; do
    "$python" -c 'import sys; sys.version_info[:2] == (3, 11) and print(sys.base_prefix)' 2>/dev/null || true
  done | grep -m1 -vx /usr || true
}

make_base() {
  local prefix=$1 tar=$2 work=$STATE/base
  [[ -s $tar ]] && return
  rm -rf "$work" "$STATE"/base-*.tar*
  mkdir -p "$work"
  local packages=ca-certificates,netbase,tzdata index copy=() python
  index=${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}
  if [[ $prefix ]]; then
    packages+=,libbz2-1.0,libcrypt1,libexpat1,libffi8,libgdbm6,liblzma5,libncursesw6,libnsl2,libreadline8
    packages+=,libsqlite3-0,libssl3,libtirpc3,libuuid1,zlib1g
    # shellcheck disable=SC2046 # the names of its shared library, if it has one
    tar -C "$prefix" --owner=0 --group=0 --exclude='*/site-packages/*' --exclude='*/__pycache__' \
      --exclude='*.a' --exclude='lib/python3.11/test' --exclude='*/idlelib' --exclude='*/turtledemo' \
      --exclude='*/tkinter' --exclude='*/_tkinter*' -cf "$work/python.tar" \
      bin/python3.11 include/python3.11 lib/python3.11 \
      $(cd "$prefix" && ls -d lib/libpython3.11.so* 2>/dev/null)
    copy=(--customize-hook="$(printf 'tar-in %q /usr/local' "$work/python.tar")")
    python='ldconfig && python3.11 -m ensurepip --altinstall
      cd /usr/local/bin
      ln -s python3.11 python3
      ln -s python3 python
      ln -s pip3.11 pip3
      ln -s pip3 pip'
  else
    packages+=,python3,python3-pip,python3-venv
    python='rm /usr/lib/python3.11/EXTERNALLY-MANAGED
      ln -s /usr/bin/python3 /usr/local/bin/python'
  fi
  # What this machine trusts and how it reaches packages, the image does too.
  apt-config dump --format '%f "%v";%n' Acquire::Check-Valid-Until Acquire::Check-Date Acquire::http::Proxy \
    Acquire::https::Proxy >"$work/apt.conf"
  say 'Acquire::Languages "none";' >>"$work/apt.conf"
  cat >"$work/finish" <<FINISH
#!/bin/sh -e
cp /usr/local/share/ca-certificates/*.crt "\$1/usr/local/share/ca-certificates/" 2>/dev/null || true
printf '#!/bin/sh\nexit 101\n' >"\$1/usr/sbin/policy-rc.d" && chmod 755 "\$1/usr/sbin/policy-rc.d"
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\nroot-user-action = ignore\n' >"\$1/etc/pip.conf"
[ -z "$index" ] || echo 'index-url = $index' >>"\$1/etc/pip.conf"
env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "\$1" sh -ec '
      update-ca-certificates
      $python
      find /usr/local -name __pycache__ -prune -exec rm -rf {} +
      rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /var/log/*.log /root/.cache'
FINISH
  chmod 755 "$work/finish"
  debian | TMPDIR=/tmp SOURCE_DATE_EPOCH=1700000000 mmdebstrap --mode=root --format=tar --variant=apt \
    --include="$packages" --skip=chroot/policy-rc.d,output/dev --aptopt="$work/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt=force-unsafe-io \
    "${copy[@]}" --customize-hook="$(printf '%q %s' "$work/finish" '"$1"')" bookworm "$tar.new" - 3>&- 4>&- 9>&-
  mv "$tar.new" "$tar"
  rm -rf "$work"
}

load_base() {
  local tar=$1 key=$2 has image
  has=$(docker image inspect -f '{{ index .Config.Labels "pipcook-deploy.base" }}' "$BASE" 2>/dev/null) || true
  [[ $has == "$key" ]] && return
  image=$(docker import -c "LABEL pipcook-deploy.base=$key" -c 'ENV LANG=C.UTF-8' -c 'CMD ["python3"]' \
    -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' "$tar")
  docker run --rm "$image" python -c 'import bz2, ctypes, lzma, pip, sqlite3, ssl, sys; print(sys.version)'
  docker tag "$image" "$BASE"
  docker image prune -f
}

# --- its network ----------------------------------------------------------------------------------

# rules -I|-D NETWORK: let it out, and answers in. Each rule names it, so they are told from others'.
rules() {
  local net=$2.0.0/16
  iptables -w -t nat "$1" POSTROUTING -s "$net" ! -d "$net" -j MASQUERADE
  iptables -w "$1" FORWARD -s "$net" -j ACCEPT
  iptables -w "$1" FORWARD -d "$net" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
}

network_up() {
  local net bridge
  for net in 10.{201..254} 172.{20..31}; do
    ip -4 route show table all match "$net.0.0/16" | grep -qv '^default' && continue
    ip -4 route show table all root "$net.0.0/16" | grep -q . && continue
    bridge=pipcook-${net//./-}
    ip link add "$bridge" type bridge 2>/dev/null || continue
    say "$net" >"$RUN/network"
    cat /proc/sys/net/ipv4/ip_forward >"$RUN/ip_forward"
    ip address add "$net.0.1/24" dev "$bridge"
    ip link set "$bridge" up
    rules -I "$net"
    return
  done
  die 'no private network is free for the engine'
}

# Everything in the recorded network is this engine's: it was free when it was chosen.
network_down() {
  [[ -f $RUN/network ]] || return 0
  local net bridge
  net=$(<"$RUN/network")
  rules -D "$net" 2>/dev/null || true
  for bridge in $(ip -o -4 address show to "$net.0.0/16" | awk '{ print $2 }') "pipcook-${net//./-}"; do
    ip link delete "$bridge" type bridge 2>/dev/null || true
  done
  # Forwarding goes off again if nothing forwarded before, and no other bridge has come meanwhile.
  if [[ $(<"$RUN/ip_forward") == 0 && ! $(ip -o link show type bridge) ]]; then
    say 0 >/proc/sys/net/ipv4/ip_forward
  fi
  rm -f "$RUN/network"
}

# --- the engine -----------------------------------------------------------------------------------

# ours PIDFILE: its process lives and is this engine's, not one that got the number after a reboot.
ours() { [[ -s $1 ]] && grep -qasF "$RUN/" "/proc/$(<"$1")/cmdline"; }

# Containers whose dockerd was killed; only another dockerd can end them.
orphans() { grep -qasF "$RUN/exec/" /proc/[0-9]*/cmdline; }

same_boot() { [[ -f $RUN/boot && $(<"$RUN/boot") == "$(</proc/sys/kernel/random/boot_id)" ]]; }

answers() { docker version >/dev/null 2>&1; }

start() {
  local root=$STATE/$ENGINE/usr features='' mtu net pidfile
  same_boot || rm -rf --one-file-system "$RUN"
  mkdir -p "$RUN"
  cat /proc/sys/kernel/random/boot_id >"$RUN/boot"
  say "$ENGINE" >"$RUN/engine"
  for pidfile in "$RUN/docker.pid" "$RUN/exec/containerd/containerd.pid"; do
    ours "$pidfile" || rm -f "$pidfile"
  done
  network_down
  network_up
  net=$(<"$RUN/network")
  rm -rf "$STATE/config"
  mkdir -p "$STATE/config/cli-plugins"
  printf '{}\n' >"$STATE/config/config.json" # podman insists on it
  ln -s "$NEW"/libexec/docker/cli-plugins/* "$STATE/config/cli-plugins/"

  mtu=$(ip -4 -o route show default | sed -nE '1s/.* dev ([^ ]+).*/\1/p')
  mtu=$(cat "/sys/class/net/$mtu/mtu" 2>/dev/null) || mtu=1500
  [[ $ENGINE == trixie ]] && features='"features": {"containerd-snapshotter": true},
  "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "'$mtu'"}},'
  cat >"$RUN/daemon.json" <<JSON
{
  $features
  "bridge": "pipcook-${net//./-}",
  "default-address-pools": [{"base": "$net.128.0/17", "size": 24}],
  "iptables": false,
  "mtu": $mtu,
  "shutdown-timeout": 10
}
JSON
  PATH=$root/sbin:$root/bin:$STATE/runc/usr/sbin:$PATH setsid nohup dockerd --config-file "$RUN/daemon.json" \
    --data-root "$STATE/data-$ENGINE" --exec-root "$RUN/exec" --pidfile "$RUN/docker.pid" \
    --host "unix://$RUN/docker.sock" >"$STATE/dockerd.log" 2>&1 </dev/null 3>&- 4>&- 9>&- &
  local dockerd=$! end=$((SECONDS + 60))
  until answers; do
    if ((SECONDS > end)) || ! kill -0 "$dockerd" 2>/dev/null; then
      tail -n 30 "$STATE/dockerd.log"
      die 'dockerd did not start'
    fi
    sleep 0.2
  done
}

up() {
  local prefix key tar
  if ours "$RUN/docker.pid" && [[ $(<"$RUN/engine") != "$ENGINE" ]]; then
    die "the engine that is up is that of $(<"$RUN/engine"): run engine.sh down"
  fi
  install_missing
  prefix=$(python_prefix)
  key=$({
    declare -f make_base
    cat /usr/local/share/ca-certificates/*.crt 2>/dev/null || true
    debian
    say "$prefix"
    [[ ! $prefix ]] || stat -c '%s %Y' "$prefix/bin/python3.11"
  } | sha256sum | cut -c1-16)
  tar=$STATE/base-$key.tar
  make_base "$prefix" "$tar" &
  base_job=$!
  unpack trixie "$STATE/trixie" docker.io docker-cli containerd docker-buildx docker-compose cosign docker-registry
  unpack bookworm "$STATE/runc" runc
  if [[ $ENGINE == bookworm ]]; then unpack bookworm "$STATE/bookworm" docker.io containerd; fi
  ours "$RUN/docker.pid" || start
  wait "$base_job"
  load_base "$tar" "$key"
  say "Docker $(docker version -f '{{ .Server.Version }}') is up: $DOCKER_HOST" >&3
}

down() {
  local pid end=$((SECONDS + 30))
  same_boot && [[ -f $RUN/network ]] || return 0
  ENGINE=$(<"$RUN/engine")
  if ! ours "$RUN/docker.pid" && orphans; then start; fi
  if ours "$RUN/docker.pid"; then
    docker ps -aq | xargs -r docker rm -f || true
    docker network prune -f || true
    pid=$(<"$RUN/docker.pid")
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do
      ((SECONDS <= end)) || kill -KILL "$pid"
      sleep 0.1
    done
  fi
  network_down
  # A killed dockerd also leaves mounts.
  awk -v state="$STATE/" 'index($2, state) == 1 { print $2 }' /proc/mounts | tac | xargs -r umount || true
  say 'the engine is down' >&3
}

# --- the command ----------------------------------------------------------------------------------

# told COMMAND: when it ends, whatever it began has ended too, and if it went wrong its log is shown.
base_job=''
told() {
  local code=$?
  [[ ! $base_job ]] || wait "$base_job" || true
  ((code == 0)) && return
  tail -n 40 "$STATE/$1.log" >&4
  say "engine.sh $1 failed; the whole log is $STATE/$1.log" >&4
}

# logged up|down: one at a time, and only the last word of it is for the terminal.
logged() {
  can >&2 || exit 1
  [[ $ENGINE == trixie || $ENGINE == bookworm ]] || die "ENGINE is trixie or bookworm, not $ENGINE"
  mkdir -p "$STATE"
  eval "$(environment)"
  exec 3>&1 4>&2 9>"$STATE/lock"
  flock 9
  # shellcheck disable=SC2064
  trap "told $1" EXIT
  exec >"$STATE/$1.log" 2>&1
  "$1"
}

case ${1-} in
  can) can ;;
  env) environment ;;
  up | down) logged "$1" ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
