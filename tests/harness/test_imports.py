"""What every command would wait for, though few need it: seconds, each time a user types one."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("scipy.optimize", "scipy.stats", "torch._dynamo")
COMMANDS = """
import sys
import harness.commands.run, harness.commands.measure, harness.commands.tokens
from harness.atlas.collect import parameters
from models.registry import load_registry
from models.tokens import InputShape
registry = load_registry()
for name in ("olmoearth-v1-nano", "galileo-v1-nano", "satmae-pretrain-base", "croma-v1-base"):
    parameters(registry.variant(name), [InputShape(64, 64)])
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def test_commands_and_encoders_without_weights_import_nothing_slow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *SLOW], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
