"""Temporary."""
from pathlib import Path
import msgspec
class Bind(msgspec.Struct, frozen=True):
    source: str
    target: str
class Image(msgspec.Struct, frozen=True):
    reference: str
    digest: str
    entrypoint: tuple[str,...] = ()
    command: tuple[str,...] = ()
    env: dict[str,str] = {}
    binds: tuple[Bind,...] = ()
    size: int = 0
class Images:
    def find(self, r: str): return Image(r, "sha256:"+"0"*64, command=("sh",))
    def missing(self, r: str): return "no"
    def all(self): return []
def load(p: Path): return Images()
