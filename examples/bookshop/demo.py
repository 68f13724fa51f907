"""The bookshop, alive: navarch, real Envoy sidecars and real workloads on loopback addresses; no root, no cluster.

    demo.py            shows who answers while you edit the rules; Ctrl-C ends it
    demo.py --once     measures 90/10, rewrites the rule to 50/50, measures again; exits with 0 only if both are right

It works on a copy of `mesh/` under a free block of loopback addresses, and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import shop as bookshop
from traffic import Answer, Shopper, measure

if TYPE_CHECKING:
    from pathlib import Path

N_REQUESTS = 2_000
N_SHOPPERS = 4
# Of two measurements of a right split one in 150,000 falls outside.
N_DEVIATIONS = 4.5
MAX_SECONDS_TO_CHANGE = 1.0
_GIVE_UP_SECONDS = 15.0
_WINDOW_SECONDS = 3.0
_REFRESH_SECONDS = 0.5
_BAR_COLUMNS = 40


def main() -> None:
    """Run the demo; exit code 1 says what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="measure, change the rule, measure")
    told = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        with bookshop.Bookshop() as shop:
            print("starting navarch, three Envoys and three workloads ...", flush=True)
            shop.start()
            is_right = once(shop) if told.once else live(shop)
    except KeyboardInterrupt:
        print("\nall stopped")
        sys.exit(0 if not told.once else 130)
    except bookshop.StartError as error:
        sys.exit(f"demo: {error}")
    sys.exit(0 if is_right else 1)


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def once(shop: bookshop.Bookshop) -> bool:
    """Measure the shares before and after a change of the rule; return whether all is right."""
    before = measure(shop.address, N_REQUESTS, N_SHOPPERS)
    rights = [show(before, "90-10", {"v1": 0.9, "v2": 0.1})]
    seconds = change(shop)
    if seconds is None:
        print(f"no answer by the new rule within {_GIVE_UP_SECONDS:g} s")
        return False
    is_fast = seconds <= MAX_SECONDS_TO_CHANGE
    print(
        f"\nfrom file write to the first answer by the new rule: {seconds * 1000:.0f} ms"
        f" (at most {MAX_SECONDS_TO_CHANGE:g} s: {_verdict(is_fast)})"
    )
    after = measure(shop.address, N_REQUESTS, N_SHOPPERS)
    rights.append(show(after, "50-50", {"v1": 0.5, "v2": 0.5}))
    return all(rights) and is_fast


def change(shop: bookshop.Bookshop) -> float | None:
    """Rewrite 90/10 to 50/50 as an editor does; return the seconds to the first answer by the new rule."""
    text = shop.rule_file.read_text()
    for old, new in (
        ("weight: 90", "weight: 50"),
        ("weight: 10", "weight: 50"),
        ("90-10", "50-50"),
    ):
        text, n_found = re.subn(rf"{old}\b", new, text)
        if n_found != 1:
            raise bookshop.StartError(
                f"{shop.rule_file} has {n_found} times {old!r}, expected once"
            )
    shopper = Shopper(shop.address)
    shopper.ask()
    written = replace(shop.rule_file, text)
    while time.monotonic() - written < _GIVE_UP_SECONDS:
        if shopper.ask().rule == "50-50":
            return time.monotonic() - written
    return None


def replace(path: Path, text: str) -> float:
    """Write a file beside the old one and rename it over; return when the write began."""
    began = time.monotonic()
    fresh = path.with_name(f".{path.name}.swp")
    fresh.write_text(text)
    fresh.replace(path)
    return began


def show(answers: Counter[Answer], rule: str, expected: dict[str, float]) -> bool:
    """Print who answered, against what the rule says; return whether it is right."""
    total = answers.total()
    strangers = Counter(
        {a: n for a, n in answers.items() if a.rule != rule or a.version not in expected}
    )
    print(f"\nrule {rule}, {total} requests:\n  version  answers   share   by the rule")
    is_right = total > 0 and not strangers
    for version, share in expected.items():
        n_answers = answers[Answer(version, rule)]
        bound = N_DEVIATIONS * math.sqrt(share * (1 - share) / total)
        is_within = abs(n_answers / total - share) <= bound
        is_right = is_right and is_within
        expectation = f"{share:.0%} ± {bound:.1%}: {_verdict(is_within)}"
        print(f"  {version:<7} {n_answers:>8} {n_answers / total:>7.1%}   {expectation}")
    for stranger, n_answers in strangers.most_common(5):
        print(f"  not by the rule: {n_answers} times {stranger}")
    return is_right


def _verdict(is_right: bool) -> str:  # noqa: FBT001  a word for a truth value
    return "right" if is_right else "WRONG"


def live(shop: bookshop.Bookshop) -> bool:
    """Show who answers until Ctrl-C."""
    latest: list[tuple[float, Answer]] = []
    lock = threading.Lock()

    def shop_on() -> None:
        shopper = Shopper(shop.address)
        while True:
            made = shopper.ask()
            with lock:
                latest.append((time.monotonic(), made))
            time.sleep(0.005)

    for _ in range(N_SHOPPERS):
        threading.Thread(target=shop_on, daemon=True).start()
    is_terminal = sys.stdout.isatty()
    n_lines = 0
    while True:
        time.sleep(_REFRESH_SECONDS)
        with lock:
            latest[:] = [each for each in latest if each[0] > time.monotonic() - _WINDOW_SECONDS]
            counted = Counter(answer for _, answer in latest)
        lines = _live_lines(shop, counted)
        if is_terminal and n_lines:
            sys.stdout.write(f"\x1b[{n_lines}F\x1b[J")
        print("\n".join(lines), flush=True)
        n_lines = len(lines)


def _live_lines(shop: bookshop.Bookshop, counted: Counter[Answer]) -> list[str]:
    total = counted.total() or 1
    rules = sorted({answer.rule for answer in counted if answer.rule})
    lines = [
        "",
        f"Edit  {shop.rule_file}",
        f"Shop  http://{shop.address}/     navarch  http://{shop.http_address}/debug/syncz",
        f"Who answered in the last {_WINDOW_SECONDS:g} s (rule {', '.join(rules) or '-'}):",
    ]
    by_version = Counter[str]()
    for answer, n_answers in counted.items():
        by_version[answer.version or answer.fault] += n_answers
    for version, n_answers in sorted(by_version.items()):
        share = n_answers / total
        bar = "█" * round(share * _BAR_COLUMNS)
        lines.append(f"  {version:<10.60} {n_answers:>6}  {share:>6.1%}  {bar}")
    return [*lines, "Ctrl-C ends it and leaves nothing running."]


if __name__ == "__main__":
    main()
