"""The article's evaluation of photographs of one's own, as a page, a contact sheet and figures for programs.

    photographs ─▶ renditions (our codecs), peers (others) ─▶ metrics ─▶ evaluation ─▶ html, sheet, figures

Nothing here is imported before ``sdc compare`` needs it; the extra ``report`` installs what it takes.
"""
