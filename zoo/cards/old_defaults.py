"""What the cards of earlier versions leave out, because it was the default then."""

from __future__ import annotations

from typing import Any


def write_out(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a card, with the settings of `zoo reprune` written out whose default has changed since.

    Before there was a recovery every width was kept, and the samples that chose neurons judged the tolerance. Every
    card made since states its recovery.
    """
    command = recipe.get("command")
    if not isinstance(command, str) or not command.startswith("zoo reprune ") or "recovery" in recipe:
        return recipe
    recipe = {**recipe, "round_to": recipe.get("round_to") or 1, "recovery": 0}
    command += "" if "--round-to " in command else " --round-to 1"
    if recipe.get("eps") is not None:
        recipe["holdout"] = 0.0
        command += " -O search.holdout=0.0"
    return {**recipe, "command": f"{command} --recovery 0"}
