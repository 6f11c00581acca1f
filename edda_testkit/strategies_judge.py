"""Whether a generated value is accepted, and saying so when none ever is.

Hypothesis drops what a filter refuses, and complains in general terms when too much is. A `Judge`
is a filter that counts, and complains in those of the model.
"""

import json
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edda_testkit.errors import StrategyError

__all__ = ["Judge", "accepts"]

# Refusals, with nothing accepted, before it is taken to be impossible. Hypothesis gives up, with
# less to say, at 50 examples of three tries each.
HOPELESS = 90


def accepts(adapter: TypeAdapter[Any], value: Any) -> str | None:
    """Why the type refuses a JSON value, or None."""
    try:
        adapter.validate_json(json.dumps(value, allow_nan=False))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}"
    except Exception as error:  # a validator of the user's own is broken: a refusal that says so
        return f"{type(error).__name__}: {error}"
    return None


class Judge:
    """A filter that counts, so that a strategy which never yields anything says why.

    `refusal` says why a value is refused, or None.
    """

    def __init__(self, refusal: Callable[[Any], str | None], what: str) -> None:
        self._refusal = refusal
        self._what = what
        self._refused = 0
        self._has_accepted = False

    def __call__(self, value: Any) -> bool:
        """Whether to keep the value. Raises `StrategyError` when none was ever kept."""
        reason = self._refusal(value)
        if reason is None:
            self._has_accepted = True
            return True
        self._refused += 1
        if self._refused >= HOPELESS and not self._has_accepted:
            raise StrategyError(
                f"Of {self._refused} tries, none was {self._what}. The last was refused with: "
                f"{reason}\nGive the fields that matter yourself: fields={{'name': strategy}}."
            )
        return False
