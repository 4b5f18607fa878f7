"""Puts the native library into a wheel, whose name then says what it runs on; an editable installation gets it beside its sources."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags


class NativeLibrary(BuildHookInterface[Any]):
    """What hatchling calls before and after it makes a wheel. Where the library cannot be built the wheel is not made either: it would
    be slower than others of its name.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library, and name the platform."""
        sys.path.insert(0, self.root)
        from app.native import build  # noqa: PLC0415 - of the tree that is packed, and it cannot be found before

        self._temporary = TemporaryDirectory(prefix="bankstream-wheel-")
        try:
            library = build.build(build.DIRECTORY if version == "editable" else Path(self._temporary.name))
        except build.BuildError as error:
            self._temporary.cleanup()
            self.app.abort(str(error))
        if version == "editable":
            return
        target = build.glibc_target()
        glibc = "_".join(map(str, build.GLIBC))
        platform = f"manylinux_{glibc}_{target.partition('-')[0]}" if target else next(platform_tags())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(library)] = f"app/native/{build.FILE}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """What was compiled is in the wheel now."""
        self._temporary.cleanup()
