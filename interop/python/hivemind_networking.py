"""hivemind's networking modules without the rest of the package, which needs torch.

Import this first; `hivemind.p2p`, `hivemind.proto` and `hivemind.utils` then load as usual.
"""

import importlib.machinery
import multiprocessing.connection  # hivemind leaves that to torch
import sys
import types


class _Anything(types.ModuleType):
    """Has every attribute, so that definitions which only mention tensors can be made."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args, **kwargs):
        return self


class _Tensors:
    """Finds the tensor libraries and their parts."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "numpy"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Anything(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, _Tensors())

# The package itself imports all of its parts; only its place is needed.
_spec = importlib.machinery.PathFinder.find_spec("hivemind")
_package = types.ModuleType("hivemind")
_package.__path__ = list(_spec.submodule_search_locations)
_package.__spec__ = _spec
sys.modules["hivemind"] = _package
