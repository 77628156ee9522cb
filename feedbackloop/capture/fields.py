"""What is wrong with a body, in words that begin with the field's name."""


def explain(problem: str) -> tuple[str, str | None]:
    """Turn msgspec's message into one that begins with the field's name; return both.

    The name is None where no field is to blame.
    """
    said, _, path = problem.partition(" - at `$.")
    if path:
        field = path.rstrip("`").split("[")[0].split(".")[0]
        return f"{field}: {said}", field
    if "field `" in said:
        # "Object missing required field `x`", "Object contains unknown field `x`"
        field = said.rsplit("`", 2)[-2]
        return said, field
    return said, None
