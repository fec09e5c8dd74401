"""`gpulab check`, `pack` and `keygen`: whether stored runs prove their verdicts, one file of each, and who signs them.

Place: `gpulab.py` adds these to its parser. Limits: they read results and keys, and start nothing.
"""

import argparse
from pathlib import Path

from commands.places import Commands, add_command

KEY = Path("gpulab-signing.key")


def add(commands: Commands) -> None:
    """Adds them."""
    check = add_command(commands, "check", run_check, "say whether stored runs are whole and prove their verdicts")
    check.add_argument(
        "runs", nargs="+", type=Path, metavar="RESULTS", help="a run, packed or not, or a folder of them"
    )
    check.add_argument("--key", type=Path, metavar="FILE", help="public key that must have signed each run")
    pack = add_command(commands, "pack", run_pack, "pack a run as one file")
    pack.add_argument("place", type=Path, metavar="RUN", help="its folder")
    pack.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: LAB-RUN.gpulab.zip, here)")
    keygen = add_command(commands, "keygen", run_keygen, "make a key that signs runs (gpulab grade --sign FILE)")
    keygen.add_argument("--out", type=Path, default=KEY, metavar="FILE", help=f"private key to write (default: {KEY})")


def run_check(options: argparse.Namespace) -> int:
    """Prints a line on each run and one for each finding."""
    from graders import audit, signing, stored
    from graders.told import printed

    key = signing.public_key(options.key) if options.key else None
    bad = 0
    for place in stored.find(options.runs):
        found = audit.audit(place, key)
        print(printed(found.text()), flush=True)
        bad += not found.holds
    return 1 if bad else 0


def run_pack(options: argparse.Namespace) -> int:
    """Writes a run's files to one."""
    from graders import packed, stored

    place = options.place.absolute()
    out = options.out or Path(f"{place.parent.name}-{place.name}{packed.SUFFIX}")
    count, size = stored.pack(place, out)
    print(f"{out}: {count} files, {size / 1e6:.1f} MB; gpulab check {out} says whether it holds")
    return 0


def run_keygen(options: argparse.Namespace) -> int:
    """Makes a pair of keys."""
    from graders import signing

    public, fingerprint = signing.make_keys(options.out)
    print(f"{fingerprint}\nPrivate key, to be kept where no learner reads: {options.out}\nPublic key: {public}")
    print(f"Sign: gpulab grade LAB --sign {options.out}\nVerify: gpulab check RESULTS --key {public}")
    return 0
