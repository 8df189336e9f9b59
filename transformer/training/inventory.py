"""What a model is made of: the parameters of its parts, counted."""

from torch import nn


def describe(module: nn.Module) -> str:
    """The parameter counts of a model's top-level parts, one line each, shared tables named once; what is frozen."""
    seen: set[int] = set()
    lines = []
    for name, child in module.named_children():
        own = [p for p in child.parameters() if id(p) not in seen]
        seen.update(id(p) for p in own)
        if own:
            n_frozen = sum(p.numel() for p in own if not p.requires_grad)
            n = sum(p.numel() for p in own)
            told = "" if not n_frozen else " (frozen)" if n_frozen == n else f" ({n_frozen:,} frozen)"
            lines.append(f"  {name}: {n:,}{told}")
    return "\n".join(lines)
