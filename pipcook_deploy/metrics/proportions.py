"""Confidence intervals of shares, in closed form."""

from math import sqrt

Z = 1.959963984540054  # 97.5 % of the normal distribution: two-sided 95 %


def wilson(successes: int, samples: int) -> tuple[float, float]:
    """95 % score interval of one share (E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212)."""
    share, weight = successes / samples, Z * Z / samples
    middle = (share + weight / 2) / (1 + weight)
    half = Z * sqrt(share * (1 - share) / samples + weight / (4 * samples)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(lost: int, won: int, samples: int) -> tuple[float, float]:
    """95 % interval of (lost - won) / samples, both counted on the same samples.

    Adjusted Wald interval: one is added to each discordant count and two to the samples (D. G. Bonett,
    R. M. Price, J. Educ. Behav. Stat. 37 (2012), 479-488).
    """
    down, up = (lost + 1) / (samples + 2), (won + 1) / (samples + 2)
    half = Z * sqrt((down + up - (down - up) ** 2) / (samples + 2))
    return max(-1.0, down - up - half), min(1.0, down - up + half)


def paired_half_width(changed_share: float, samples: int) -> float:
    """Half of `paired_difference` when a share of the answers changes, as many for the better as not."""
    changed = (changed_share * samples + 2) / (samples + 2)
    return Z * sqrt(changed / (samples + 2))
