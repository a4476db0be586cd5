# shellcheck shell=bash
# Sourced by run_all.sh, run_tests.sh and .ci/run. `use_environment EXTRA` puts the repository on PYTHONPATH and sets
# cds_python to an interpreter that has what pyproject.toml asks for with that extra (study or test). It is that of
#   1. the active virtual or conda environment, used unchanged, if it has everything;
#   2. otherwise .venv in the repository, made from requirements.lock with uv, or with venv and pip if there is no uv.
# Two files in .venv record its state. installing.lock: an install of what it lists is running or was interrupted.
# installed.lock: the same file, renamed once everything was installed and worked. So a killed install is noticed, and so
# is a changed lock. The user sets where packages come from (indexes, proxies, certificates), but not where they go.
# CDS_CPU_INDEX, an index such as https://download.pytorch.org/whl/cpu, asks for PyTorch without CUDA from there. It is
# installed without hashes, because the lock does not have those files. A .venv that has it keeps it.
# Written for bash 3.2, which macOS still ships.
# shellcheck disable=SC2034  # cds_python is for the script that sources this

cds_root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cds_venv=$cds_root/.venv
cds_python=''

say() { printf '%s\n' "$*" >&2; }

stop() {  # stop CODE MESSAGE
    say "$2"
    exit "$1"
}

use_environment() {
    # With HOME empty, "~" would be the working directory and every tool would put its settings there.
    [ -n "${HOME:-}" ] || unset HOME
    # Otherwise Python would first import from the caller's folder, such as a random.py or another checkout.
    export PYTHONSAFEPATH=1
    unset PYTHONHOME  # as an environment's own activate does
    # Hundreds of processes import PyTorch. Each would compile its sources again, which doubles the time.
    unset PYTHONDONTWRITEBYTECODE
    use_active_environment "$@" || use_own_environment "$@"
    export PYTHONPATH="$cds_root${PYTHONPATH:+:$PYTHONPATH}"
}

use_active_environment() {
    local prefix unmet
    for prefix in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
        # Our own .venv is handled below even when it is active, because its lock may have changed.
        if [ -z "$prefix" ] || [ "$prefix" -ef "$cds_venv" ]; then continue; fi
        if unmet=$("$prefix/bin/python" "$cds_root/scripts/unmet_requirements.py" "$@" 2>&1); then
            cds_python=$prefix/bin/python
            say "environment: $prefix (active)"
            return 0
        fi
        say "The active environment $prefix is not used: $unmet"
    done
    return 1
}

use_own_environment() {
    local state unmet
    state=$(own_state)
    if [ "$state" = foreign ]; then
        unmet=$("$cds_venv/bin/python" "$cds_root/scripts/unmet_requirements.py" "$@" 2>&1) ||
            stop 2 ".venv was not made by this script and cannot be used: $unmet. Remove it, or activate an environment that has them."
    elif [ "$state" != ready ]; then
        { mkdir -p "$cds_venv" && [ -w "$cds_venv" ]; } 2>/dev/null ||
            stop 2 "Cannot write $cds_venv: make the repository writable, or activate an environment that has the packages."
        take_lock
        state=$(own_state)  # whoever held the lock may have finished it
        [ "$state" = ready ] || make_own_environment "$state"
        release_lock
    fi
    cds_python=$cds_venv/bin/python
    say "environment: $cds_venv"
}

lock_for_here() {  # print the lock, after a line with the place it was installed for: a moved .venv does not work
    printf '# installed for %s\n' "$cds_root"
    if cpu_only; then lock_without_cuda <"$cds_root/requirements.lock"; else cat "$cds_root/requirements.lock"; fi
}

cpu_only() {
    [ -n "${CDS_CPU_INDEX:-}" ] || [ -n "$(cpu_packages installed)" ] || [ -n "$(cpu_packages installing)" ]
}

cpu_packages() {  # cpu_packages installed|installing: print what lock_without_cuda named in that file, if it wrote it
    local last
    last=$(tail -n 1 "$cds_venv/$1.lock" 2>/dev/null) || true
    case $last in "# without hashes: "*) printf '%s\n' "${last#*: }" ;; esac
}

lock_without_cuda() {  # print the lock without PyTorch's CUDA packages, and PyTorch itself in the last line
    local line name apart='' keep=yes
    while IFS= read -r line; do
        case $line in
            [a-z]*)
                name=${line%%==*} keep=yes
                case $name in
                    torch | torchvision) apart="$apart ${line%% *}+cpu" keep='' ;;
                    cuda-* | nvidia-* | triton) keep='' ;;
                esac ;;
        esac
        [ -z "$keep" ] || printf '%s\n' "$line"
    done
    printf '# without hashes:%s\n' "$apart"
}

own_state() {
    if [ -e "$cds_venv/installing.lock" ]; then
        echo interrupted
    elif [ -e "$cds_venv/installed.lock" ]; then
        if [ "$(head -n 1 "$cds_venv/installed.lock")" != "# installed for $cds_root" ] ||
            ! "$cds_venv/bin/python" -c '' 2>/dev/null; then
            echo broken
        elif lock_for_here | cmp -s - "$cds_venv/installed.lock" && own_unmet >/dev/null; then
            echo ready
        else
            echo outdated
        fi
    elif [ -e "$cds_venv/pyvenv.cfg" ]; then
        echo foreign
    else
        echo absent
    fi
}

own_unmet() {  # print what .venv lacks and fail if it lacks something; PYTHONPATH is hidden, or its packages would count
    PYTHONPATH='' "$cds_venv/bin/python" "$cds_root/scripts/unmet_requirements.py" test 2>&1
}

make_own_environment() {  # make_own_environment STATE
    local log=$cds_venv/install.log base='' with=pip index=--index-url size='6 GB' apart site fault
    if command -v uv >/dev/null 2>&1; then with=uv index=--default-index; fi
    if [ "$1" != outdated ]; then
        base=$(find_python) || [ "$with" = uv ] ||
            stop 2 "No Python 3.11 or newer was found: install one (or uv), or activate an environment that has the packages."
    fi
    lock_for_here >"$cds_venv/next.lock"  # before the last install, which tells whether to do without CUDA, is removed
    cpu_only && size='2 GB'
    case $1 in
        absent) say "making the environment in .venv with $with: about $size on Linux, some minutes (log: .venv/install.log)" ;;
        outdated) say "bringing .venv in line with requirements.lock (log: .venv/install.log)" ;;
        *) say "making .venv again, the last install was $1: some minutes (log: .venv/install.log)"
           find "$cds_venv/" -mindepth 1 -maxdepth 1 ! -name 'making.*' ! -name next.lock -exec rm -rf {} + ;;
    esac
    : >"$log"
    mv "$cds_venv/next.lock" "$cds_venv/installing.lock"
    if [ "$with" = uv ]; then
        # If no Python is new enough, uv fetches one.
        [ "$1" = outdated ] || logged uv venv --allow-existing --python "${base:-3.11}" "$cds_venv"
        add() {
            logged env -u UV_TORCH_BACKEND uv --directory "$cds_root" pip install --python "$cds_venv/bin/python" \
                --prefix "$cds_venv" "$@"
        }
    else
        [ "$1" = outdated ] || logged "$base" -m venv "$cds_venv"
        add() {
            # Not compiled, as with uv: Python compiles only what is imported.
            logged env -u PIP_DRY_RUN "$cds_venv/bin/python" -m pip --python= install --no-input --no-user --target= \
                --root=/ --prefix="$cds_venv" --no-compile "$@"
        }
    fi
    apart=$(cpu_packages installing)
    add --require-hashes ${apart:+--no-deps} -r "$cds_venv/installing.lock"
    # shellcheck disable=SC2086  # several words
    [ -z "$apart" ] || add --no-deps ${CDS_CPU_INDEX:+"$index" "$CDS_CPU_INDEX"} $apart
    # An exit code does not tell whether the packages went where they belong.
    fault=$(own_unmet) || stop 1 "$with ended well, but in .venv $fault: look for a target or a dry run in the settings of $with."
    logged "$cds_venv/bin/python" -c 'import torch, torchvision'
    # The package is not installed. This file makes it importable, also in JupyterLab's kernels, which lack PYTHONPATH.
    site=$("$cds_venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$cds_root" >"$site/cds_study.pth"
    mkdir -p "$cds_venv/etc/jupyter/jupyter_server_config.d"
    printf '{"ServerApp": {"jpserver_extensions": {"cds_lib.study.report.strip_on_save": true}}}\n' \
        >"$cds_venv/etc/jupyter/jupyter_server_config.d/cds_study.json"
    mv "$cds_venv/installing.lock" "$cds_venv/installed.lock"
}

logged() {  # run a command with its output in the log; PYTHONPATH is hidden, or pip would count the packages there
    local log=$cds_venv/install.log
    if ! PYTHONPATH='' "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 12 "$log" >&2
        stop 1 "Making the environment failed: the lines above are the end of $log. Run the same command again to retry."
    fi
}

find_python() {  # print the real interpreter of the first Python >= 3.11; a name on PATH may be a stub that only fails
    local name
    for name in python3.11 python3.12 python3.13 python3; do  # the first is what the tests run on
        "$name" -c 'import sys; print(sys.executable) if sys.version_info >= (3, 11) else sys.exit(1)' 2>/dev/null &&
            return 0
    done
    return 1
}

take_lock() {  # one process makes .venv, others wait: with flock if it exists (not on macOS), else a link to the process id
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$cds_venv/making.lock"
        flock -n 9 || { say "Another process is making .venv: waiting for it."; flock 9; }
        return 0
    fi
    local told='' holder
    until ln -s "$$" "$cds_venv/making.pid" 2>/dev/null; do
        holder=$(readlink "$cds_venv/making.pid" || true)
        # The process that made the link was killed. The link moved away may be a newer one by now; then it is put back.
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null && mv "$cds_venv/making.pid" "$cds_venv/making.$$" 2>/dev/null; then
            [ "$(readlink "$cds_venv/making.$$")" = "$holder" ] || mv "$cds_venv/making.$$" "$cds_venv/making.pid"
            rm -f "$cds_venv/making.$$"
            continue
        fi
        [ -n "$told" ] || say "Another process is making .venv: waiting for it."
        told=yes
        sleep 1
    done
    cds_exit_trap=$(trap -p EXIT)  # of the script that sources this
    trap 'rm -f "$cds_venv/making.pid"' EXIT
}

release_lock() {
    if command -v flock >/dev/null 2>&1; then
        exec 9>&-
    else
        rm -f "$cds_venv/making.pid"
        trap - EXIT
        eval "$cds_exit_trap"
    fi
}
