"""What attempts are called in Ray. Pure.

A Ray that is joined may serve several installations of this service, whose databases know nothing of each other. The
name says whose an attempt is: no installation sees, adopts or removes what is another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trana.jobs.domain.attempt import AttemptKey

NAMESPACE = "trana"
"""Ray's namespace, the same for all installations: Ray lists placement groups without theirs."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names `trana/{installation}/{job}/{number}` of supervisors and placement groups.

    Attributes:
        installation: Which installation of the service this is; holds no `/`.
    """

    installation: str

    def of(self, key: AttemptKey) -> str:
        """The name of an attempt's supervisor, and of its placement group."""
        return f"{self._prefix}{key}"

    def keys(self, names: Iterable[str]) -> set[AttemptKey]:
        """The attempts of this installation among names of any origin."""
        keys = set()
        for name in names:
            job, _, number = name.removeprefix(self._prefix).rpartition("/")
            if name.startswith(self._prefix) and job and number.isdecimal():
                keys.add(AttemptKey(job, int(number)))
        return keys

    @property
    def _prefix(self) -> str:
        return f"trana/{self.installation}/"
