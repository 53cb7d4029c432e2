#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the colours of placements in the report's style sheet: lines in them can be seen, and any
two can be told apart, with normal sight and with the three dichromacies."""

import itertools
import re
import unittest
from pathlib import Path

import colours

SHEET = Path(__file__).resolve().parents[2] / "src/simulate/report/colours.css"
LEAST_DIFFERENCE = 11  # CIEDE2000
LEAST_CONTRAST = 3  # WCAG 2.1, for graphics


def sheet_colours(text):
    """{name: (light, dark)} of a style sheet."""
    found = re.findall(r"--(\w+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", text)
    return {name: (light, dark) for name, light, dark in found}


class Metric(unittest.TestCase):
    def test_ciede2000_has_the_published_values(self):
        # Sharma, Wu and Dalal, table 1: pairs 1, 7, 13, 17, 20, 25 and 34.
        for a, b, expected in (
            ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
            ((50, 0, 0), (50, -1, 2), 2.3669),
            ((50, -0.001, 2.49), (50, 0.0011, -2.49), 4.7461),
            ((50, 2.5, 0), (73, 25, -18), 27.1492),
            ((50, 2.5, 0), (58, 24, 15), 19.4535),
            ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
            ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
        ):
            self.assertAlmostEqual(colours.ciede2000(a, b), expected, places=4)

    def test_dichromats_do_not_see_what_they_cannot(self):
        red, olive = "#b40000", "#5c5200"
        self.assertGreater(colours.difference(red, olive, "normal"), 35)
        self.assertLess(colours.difference(red, olive, "protanopia"), 20)
        for vision in colours.VISIONS:
            grey = colours.seen("#808080", vision)
            self.assertLess(max(grey) - min(grey), 0.002, vision)


class Sheet(unittest.TestCase):
    def setUp(self):
        found = sheet_colours(SHEET.read_text(encoding="utf-8"))
        self.placements = {name: found[name] for name in found if re.fullmatch(r"c\d", name)}
        self.card = found["card"]
        self.assertEqual(len(self.placements), 9)

    def test_any_two_placements_can_be_told_apart(self):
        for theme, vision in itertools.product((0, 1), colours.VISIONS):
            pairs = itertools.combinations(self.placements.items(), 2)
            least, pair = min(
                (colours.difference(a[theme], b[theme], vision), (first, second))
                for (first, a), (second, b) in pairs
            )
            print(f"{('light', 'dark')[theme]}, {vision}: at least {least:.1f}, {pair}")
            self.assertGreaterEqual(least, LEAST_DIFFERENCE, (theme, vision, pair))

    def test_lines_can_be_seen_on_a_card(self):
        for theme in (0, 1):
            for name, pair in self.placements.items():
                ratio = colours.contrast(pair[theme], self.card[theme])
                self.assertGreaterEqual(ratio, LEAST_CONTRAST, (theme, name))


if __name__ == "__main__":
    unittest.main()
