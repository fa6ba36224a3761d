# shellcheck shell=bash
# Makes a bare Debian 12 machine ready to run Birthmark from this checkout. Sourced by scripts/{demo,test,check}:
#
#   setup             Debian packages, .venv, the broker's gate; about two minutes the first time, none the second
#   setup --factory   the same, and what a factory line needs: image tools, QEMU, the firmware's compiler
#   setup --venv      only .venv: what the unit tests need
#
# What it changes outside the checkout: it installs the Debian packages that are missing, as root or with sudo, and
# says which. It starts no service, and enables none.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv="$root/.venv"

# Each package with its reason. Python is Debian's own (3.11).
building=(
    python3-venv      # .venv
    python3-dev       # tpm2-pytss and python-pkcs11 are compiled here
    gcc make pkg-config
    libtss2-dev       # the agent's way to a TPM, and its headers for tpm2-pytss
    mosquitto-dev     # headers of the broker's plugin interface, for our gate
    libmosquitto-dev
    libssl-dev        # the gate reads client certificates
    git
)
running=(
    swtpm             # a TPM 2.0 emulator for each device
    swtpm-tools       # swtpm_setup: gives it an endorsement key and certificate, as a manufacturer does
    tpm2-tools        # TPM2_Clear and dictionary attacks in the tests
    libtss2-tcti-swtpm0
    mosquitto         # the broker
    mosquitto-clients # and a client nobody here wrote
    rabbitmq-server   # the other broker: a cluster
    socat             # an application in shell, on the agent's socket
    openssl curl      # EST and TLS clients nobody here wrote
    strongswan-pki    # `pki --est`: another one
    libstrongswan-standard-plugins
    libstrongswan-extra-plugins
    postgresql        # the store's other back end
    softhsm2          # PKCS#11: CA keys in a token
    gnutls-bin        # ocsptool, certtool: OCSP and CRL clients nobody here wrote
    haproxy           # a TLS front before the server
    nginx libnginx-mod-http-js # another one
)
# What a factory line works with, beside the above: for `setup --factory`. Some 400 MB.
factory=(
    squashfs-tools genimage mtools dosfstools # a device's image, from Debian packages
    binutils sbsigntool # a unified kernel image, signed for Secure Boot
    faketime          # the time in that signature
    cpio              # reads our initial RAM file system, in a test
    binutils-aarch64-linux-gnu gcc-aarch64-linux-gnu # the same for arm64, and the agent's one compiled package
    e2fsprogs         # the partition for the agent's state
    bmap-tools gdisk  # flashing that nobody here wrote, to compare with
    qemu-system-x86 ovmf # boots what was flashed: a PC with UEFI
    qemu-system-arm qemu-efi-aarch64 # an arm64 board, and the microcontroller's
    gcc-arm-none-eabi picolibc-arm-none-eabi # the microcontroller's firmware
    clang             # its sanitizers and libFuzzer
    dpkg-dev          # BearSSL's source, for the firmware's signature check
    swupdate          # takes a signed update of the agent
    zbar-tools        # reads a label's QR code back
    librsvg2-bin      # draws a label's SVG, as a printer's driver does
    jose              # checks a manifest's signatures: a JOSE tool that nobody here wrote
)

say() {
    if [[ -t 2 ]]; then printf '\033[2m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi
}
refuse() {
    printf 'setup: %s\n' "$*" >&2
    exit 69 # EX_UNAVAILABLE
}

missing_packages() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
    done
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    local missing
    # One query for all is quick; only if it fails is each asked for by itself.
    [[ $(dpkg-query --show --showformat='${db:Status-Status}\n' "$@" 2>/dev/null | grep -cx installed) -eq $# ]] && return
    mapfile -t missing < <(missing_packages "$@")
    [[ $EUID -eq 0 ]] || command -v sudo >/dev/null ||
        refuse "these Debian packages are missing and need root to install: apt-get install ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    without_services as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >&2
    without_services as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends install "${missing[@]}" >&2
    disable_services "${missing[@]}"
}

# Debian starts a daemon as soon as its package is installed, unless policy-rc.d says no (invoke-rc.d(8)). Ours are
# started by the demo and the tests, each on a port of its own.
without_services() (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
    fi
    "$@"
)

disable_services() {
    local package
    command -v systemctl >/dev/null || return 0
    for package in "$@"; do
        case $package in
            mosquitto | postgresql | haproxy | nginx | rabbitmq-server) as_root systemctl disable --quiet "$package" 2>/dev/null || true ;;
        esac
    done
}

make_venv() {
    local wanted stamp="$venv/.birthmark-setup"
    wanted=$(cd "$root" && sha256sum requirements/dev.lock pyproject.toml && pwd && /usr/bin/python3 --version)
    [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return
    say "making .venv from requirements/dev.lock: two or three minutes"
    [[ -x $venv/bin/pip ]] || /usr/bin/python3 -m venv "$venv"
    local lock="$root/requirements/dev.lock"
    pip_install "$(grep -c '^[a-z].*==' "$lock")" --require-hashes -r "$lock"
    pip_install 1 --no-deps --no-build-isolation --editable "$root"
    printf '%s\n' "$wanted" >"$stamp"
}

# pip install, with its progress through COUNT packages: in a terminal one line that moves, else a line for each stage.
pip_install() {
    local count=$1 log="$root/.birthmark/pip.log"
    shift
    if ! PYTHONUNBUFFERED=1 "$venv/bin/pip" install --disable-pip-version-check --no-color --progress-bar off "$@" 2>&1 |
        tee "$log" | pip_progress "$count"; then
        tail -n 30 "$log" >&2
        refuse "pip failed; all that it said is in $log"
    fi
}

pip_progress() {
    local count=$1 line number=0 told=
    while IFS= read -r line; do
        case $line in
            Collecting*) number=$((number + 1)) && stage "downloading" "$number of $count" ;;
            *"Building wheel for"*started* | *"Building editable for"*started*)
                line=${line#*for } && stage "building ${line%% *}" ;;
            "Installing collected packages"*) stage installing ;;
        esac
    done
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
}

# stage NAME [DETAIL]. `told` is the caller's: the last one's name.
stage() {
    if [[ -t 2 ]]; then
        printf '\r\033[K  %s %s' "$1" "${2:-}" >&2
    elif [[ $told != "$1" ]]; then
        told=$1
        printf '  %s%s\n' "$1" "${2:+ (${2##* of } packages)}" >&2
    fi
}

make_gate() {
    [[ -f $root/server/mosquitto_gate/Makefile ]] || return 0
    make --silent --directory "$root/server/mosquitto_gate" >&2
}

setup() {
    command -v apt-get >/dev/null || refuse "apt-get is missing; Birthmark is set up on Debian 12 or later"
    mkdir -p "$root/.birthmark"
    exec 9>"$root/.birthmark/setup.lock"
    flock 9 # two scripts at once: the second waits, then finds all done
    if [[ ${1:-} == --venv ]]; then
        install_packages "${building[@]}"
        make_venv
    else
        local packages=("${building[@]}" "${running[@]}")
        [[ ${1:-} != --factory ]] || packages+=("${factory[@]}")
        install_packages "${packages[@]}"
        make_venv
        make_gate
    fi
    exec 9>&-
}
