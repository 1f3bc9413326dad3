#!/bin/sh
# Print the first Python that is new enough for the course. PYTHON=... names one instead.
if [ -n "$PYTHON" ]; then
    set -- "$PYTHON"
else
    set -- python3 python3.13 python3.12 python3.11
fi
for python in "$@"; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$python"
        exit 0
    fi
done
found=$("$1" --version 2>&1) || found="no $1"
echo "This course needs Python 3.11 or newer, and found only $found: install a newer Python, or" \
    "name one as in 'make lab PYTHON=/path/to/python3.12'." >&2
exit 1
