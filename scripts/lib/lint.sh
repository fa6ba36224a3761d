# shellcheck shell=bash
# What the machine can see in the source without running it. Sourced by scripts/{check,test}, in the checkout's folder.

lint() {
    "$venv/bin/ruff" check --quiet .
    "$venv/bin/ruff" format --check --quiet .
    "$venv/bin/mypy" server/birthmark_server device_agent/birthmark_wire device_agent/birthmark_agent tests scripts
    "$venv/bin/lint-imports" --no-cache >&2
}
