"""The results, to be read and to be seen."""

from html import escape

ROW = 22
COLUMNS = (("test", 90), ("who, in order", 420), ("link", 170), ("figures", 300), ("verdict", 90))
COLOURS = {"pass": "#1a7f37", "known": "#9a6700", "FAIL": "#cf222e"}


def verdict(one):
    if one.passed:
        return "pass"
    return "known" if one.reason else "FAIL"


def markdown(results, everybody):
    out = ["# Interop matrix", ""]
    passed = sum(one.passed for one in results)
    out += [f"{passed} of {len(results)} cells passed. The dialer stands first; of three, bootstrap"]
    out += ["node, provider, querier. Two times are handshake with one round trip, and a round trip.", ""]
    missing = [one.name for one in everybody if not (one.daemon or one.program)]
    if missing:
        out += [f"Not installed on that machine: {', '.join(missing)}.", ""]
    out += ["| test | who | transport | security | muxer | figures | verdict |", "|---|---|---|---|---|---|---|"]
    for one in results:
        link = [*one.link, "", "", ""][:3]
        why = f": {one.reason or one.complaint}" if not one.passed else ""
        cells = [one.test, " → ".join(one.names), *link, one.figures, verdict(one) + why]
        out.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(out) + "\n"


def svg(results):
    width = sum(size for _, size in COLUMNS)
    height = ROW * (len(results) + 2)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    rows = [[name for name, _ in COLUMNS]]
    for one in results:
        who = " → ".join(one.names)
        rows.append([one.test, who, ", ".join(one.link), one.figures, verdict(one)])
    for number, row in enumerate(rows):
        left = 8
        for (_, size), text in zip(COLUMNS, row):
            style = 'font-weight="bold"' if number == 0 else f'fill="{COLOURS.get(text, "black")}"'
            out.append(f'<text x="{left}" y="{ROW * (number + 1)}" {style}>{escape(text)}</text>')
            left += size
    return "\n".join([*out, "</svg>"]) + "\n"
