#!/usr/bin/env bash
# Fetches the real systems that the second stage runs against, by package name, into a cache folder outside the clone.
# Idempotent: what is complete is left alone; a part is unpacked beside its place and renamed, so a cut run leaves nothing half done.
# Usage: peers/fetch.sh [kafka|minio|toxiproxy|kcat|python|librdkafka|kafka-python|all]...
set -euo pipefail

KAFKA_VERSION=4.2.0
MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
TOXIPROXY_VERSION=v2.12.0
# Only where the machine's own Go is older than MinIO's go.mod allows.
GO_VERSION=1.26.8
GO_OLDEST_MINOR=24

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WHIMBREL_CACHE:-$HOME/.cache/whimbrel}
bin=$cache/bin
mkdir -p "$bin"

# One run at a time per cache: two would race for the same temporary names.
exec 9>"$cache/fetch.lock"
flock 9

say() { printf 'fetch: %s\n' "$*" >&2; }

# install_for COMMAND PACKAGE...: installs the packages unless the command is there already.
install_for() {
    local command=$1
    shift
    type -P "$command" >/dev/null && return 0
    apt_packages "$@"
}

apt_packages() {
    local sudo=
    if [ "$(id -u)" -ne 0 ]; then sudo=sudo; fi
    say "installing $* (apt)"
    # The lists of a fresh machine are empty or old; a failed first try refreshes them.
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 || {
        $sudo apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >&2
    }
}

# The peers of a stamp are complete when the stamp holds the wanted version.
complete() { [ "$(cat "$cache/$1.version" 2>/dev/null || true)" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$cache/$1.version"; }

kafka() {
    local wanted
    # The compiler too: a test's Java program is a source file.
    install_for javac openjdk-17-jdk-headless
    wanted="$KAFKA_VERSION $(cksum <"$here/kafka/pom.xml")"
    complete kafka "$wanted" && return 0
    install_for mvn maven
    say "Kafka $KAFKA_VERSION (maven)"
    local work
    work=$(mktemp -d "$cache/kafka.XXXXXX")
    cp "$here/kafka/pom.xml" "$work/pom.xml"
    mvn -q -B -Dstyle.color=never -f "$work/pom.xml" -Dkafka.version="$KAFKA_VERSION" dependency:copy-dependencies -DoutputDirectory="$work/libs" >&2
    rm -rf "$cache/kafka"
    mkdir "$cache/kafka"
    mv "$work/libs" "$cache/kafka/libs"
    rm -rf "$work"
    stamp kafka "$wanted"
}

# Prints a go command that is new enough. Debian's may predate toolchain switching; the newer one is itself a Go module, so that the module
# proxy serves it like any other.
go_command() {
    install_for go golang-go
    local minor
    minor=$(go version | sed -E 's/.*go1\.([0-9]+).*/\1/')
    if [ "$minor" -ge "$GO_OLDEST_MINOR" ]; then
        command -v go
        return 0
    fi
    local module="golang.org/toolchain@v0.0.1-go$GO_VERSION.linux-amd64" folder
    say "Go $GO_VERSION (go mod download)"
    folder=$(cd "$(mktemp -d)" && go mod download -json "$module" | sed -nE 's/^\s*"Dir": "(.*)",?$/\1/p')
    # A module's zip carries no modes and no nested go.mod; the go command mends both when it switches by itself.
    chmod -R u+w "$folder"
    chmod +x "$folder"/bin/* "$folder"/pkg/tool/*/*
    find "$folder" -name _go.mod -execdir mv {} go.mod \;
    printf '%s\n' "$folder/bin/go"
}

# go_install NAME VERSION PACKAGE BUILT: builds the package and keeps its binary as bin/NAME.
go_install() {
    local name=$1 version=$2 package=$3 built=$4
    complete "$name" "$version" && return 0
    local go work
    go=$(go_command)
    say "$name $version (go install)"
    work=$(mktemp -d "$cache/$name.XXXXXX")
    # Hundreds of lines of "downloading" are of interest only when it fails.
    GOBIN=$work CGO_ENABLED=0 "$go" install "$package@$version" 2>"$work/log" || {
        cat "$work/log" >&2
        return 1
    }
    mv "$work/$built" "$bin/$name"
    rm -rf "$work"
    stamp "$name" "$version"
}

minio() { go_install minio "$MINIO_VERSION" github.com/minio/minio minio; }
toxiproxy() { go_install toxiproxy "$TOXIPROXY_VERSION" github.com/Shopify/toxiproxy/v2/cmd/server server; }
kcat() { install_for kcat kcat; }

python() {
    local wanted
    install_for python3 python3
    wanted="$(python3 -c 'import sys; print(sys.version_info[:2])') $(cksum <"$here/python/requirements.txt")"
    complete python "$wanted" && return 0
    say "Python clients (pip)"
    rm -rf "$cache/venv"
    # Debian splits ensurepip off; without it `venv` fails half way.
    python3 -c 'import ensurepip' 2>/dev/null || apt_packages python3-venv
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install -q --only-binary :all: -r "$here/python/requirements.txt" >&2
    stamp python "$wanted"
}

# librdkafka's own load generator and its own tests, from the sources that the crate rdkafka-sys carries: the version our lock file pins.
librdkafka() {
    local version source work
    version=$(sed -nE '/^name = "rdkafka-sys"$/{n;s/^version = "(.*)"$/\1/p}' "$here/../Cargo.lock")
    complete librdkafka "$version, all tests beside their schema" && return 0
    # A Java client that one of the tests starts.
    kafka
    install_for make build-essential
    # Some tests pass themselves over without it.
    [ -e /usr/include/rapidjson/document.h ] || apt_packages rapidjson-dev
    say "rdkafka_performance and test-runner of rdkafka-sys $version (cargo fetch, make)"
    cargo fetch -q --locked --manifest-path "$here/../Cargo.toml" >&2
    source=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"rdkafka-sys-$version"/librdkafka)
    work=$(mktemp -d "$cache/librdkafka.XXXXXX")
    cp -r "$source/." "$work"
    (
        cd "$work"
        ./configure --disable-gssapi --disable-curl
        make -j2 libs
        make -C examples rdkafka_performance
        make -j2 -C tests build
    ) >"$work/build.log" 2>&1 </dev/null || {
        tail -50 "$work/build.log" >&2
        return 1
    }
    # The Makefile of the examples links the static library: the binary stands alone. That of the tests links the shared ones, and they want their
    # folder's fixtures and plug-ins, which test.c names, and what is in ../src. One asks make for its Java client while it runs: that is made here.
    mv "$work/examples/rdkafka_performance" "$bin/rdkafka_performance"
    find "$work/tests" -name '*.[od]' -delete
    mv "$work/src/librdkafka.so.1" "$work/src-cpp/librdkafka++.so.1" "$work/tests"
    javac -cp "$cache/kafka/libs/*" "$work/tests/java/TransactionProducerCli.java" >&2
    printf 'java:\n.PHONY: java\n' >"$work/tests/Makefile"
    rm -rf "$cache/librdkafka"
    mkdir -p "$cache/librdkafka/src"
    mv "$work/src/statistics_schema.json" "$cache/librdkafka/src"
    mv "$work/tests" "$cache/librdkafka/tests"
    rm -rf "$work"
    stamp librdkafka "$version, all tests beside their schema"
}

# The tests of kafka-python are only in its source distribution; the version is that of the venv.
kafka_python() {
    local wanted work
    wanted=$(grep '^kafka-python==' "$here/python/requirements.txt")
    complete kafka-python "$wanted" && return 0
    python
    say "sources of $wanted (pip download)"
    work=$(mktemp -d "$cache/kafka-python.XXXXXX")
    "$cache/venv/bin/pip" download -q --no-deps --no-binary kafka-python -d "$work" "$wanted" >&2
    tar -xzf "$work"/*.tar.gz -C "$work" --strip-components=1
    rm -rf "$cache/kafka-python"
    mkdir "$cache/kafka-python"
    mv "$work/test" "$cache/kafka-python/test"
    # Not in the distribution; without it `test` is Python's own package of that name.
    touch "$cache/kafka-python/test/__init__.py"
    # Nor is this one, which starts brokers. Ours is given, so that names suffice.
    printf 'class ExternalService:\n    def __init__(self, host, port):\n        self.host, self.port = host, port\n\n\nSpawnedService = None\n' >"$cache/kafka-python/test/service.py"
    rm -rf "$work"
    stamp kafka-python "$wanted"
}

[ $# -gt 0 ] || set -- all
for part in "$@"; do
    case $part in
    all) for each in kafka python kcat toxiproxy minio librdkafka kafka_python; do "$each"; done ;;
    kafka | minio | toxiproxy | kcat | python | librdkafka) "$part" ;;
    kafka-python) kafka_python ;;
    *)
        say "unknown part '$part'; known: kafka minio toxiproxy kcat python librdkafka kafka-python all"
        exit 2
        ;;
    esac
done
