"""List the abbreviations of each language, whose full stop ends no sentence."""

from __future__ import annotations

# a full stop after these ends no sentence; the segmenter knows all others
ABBREVIATIONS = frozenset("ms vol approx est e.g i.e avg ch eq eqs incl resp tel".split())
DEVANAGARI = frozenset("डॉ श्री श्रीमती सुश्री प्रो पं कु मी सेमी किमी किग्रा".split())
LATIN = frozenset("mr mrs dr prof st jr no vol".split())  # in scripts with marks of their own
NORWEGIAN = frozenset("kl nr tlf".split())
SERBIAN = frozenset("inž dr mr prof ul tzv npr инж др мр проф ул стр тзв нпр".split())
MALAY = frozenset("bpk sdr jl ir drs hj thn".split())
# the same before a number alone: some of them are words, too
NUMBERED_OF = {
    "en": frozenset("rec prop lem cor thm def ex rem reg temp max min chap vols figs".split()),
    "fr": frozenset("art al chap civ crim com soc temp max min n no t".split()),
    "it": frozenset(["tab"]),
    "nl": frozenset("afb par".split()),
    "pl": frozenset("s str nr tab rys art ust pkt poz t rozdz par zob wyd".split()),
    "pt": frozenset("p pp n cap arts ed cf".split()),
    "ru": frozenset("табл гл ст разд изд ок".split()),
    "sv": frozenset("kap tab".split()),
    "uk": frozenset("табл гл ст розд".split()),
}
# the same in languages whose abbreviations the segmenter does not know; what has a capital is
# written so: "M. Roux" is a person, and "5 m." a length
ABBREVIATIONS_OF = {
    "bg": frozenset("инж др проф ул стр вж".split()),
    "bn": frozenset("ড ডা মি মিসেস প্রো".split()),
    "bs": SERBIAN,
    "de": frozenset("frl hl inkl exkl zzgl Fa Fam Gebr Hrn".split()) | {"dipl.-ing", "dr.-ing"},
    "el": frozenset("σελ σελς αρ κεφ εικ τηλ".split()),
    "en": frozenset("para paras eds seq conc aq cont Ft".split()),  # words, in other languages
    "es": frozenset("D Dª Dña Profa Mons pág págs cap núm núms ej aprox".split()),
    "fr": frozenset("M MM mme mmes mlle dr Prof St Ste Sts Mgr Pr Cdt".split()),
    "gu": frozenset("ડૉ ડો શ્રી શ્રીમતી પ્રો ઈ સ".split()),
    "hi": DEVANAGARI | {"कि", "मी"},
    "hr": SERBIAN,
    "hu": frozenset("kb ld id ifj özv dr u".split()),
    "id": MALAY,
    "it": frozenset("pag pagg n nn art artt S".split()),
    "ja": LATIN,
    "kn": frozenset("ಡಾ ಶ್ರೀ ಶ್ರೀಮತಿ ಪ್ರೊ".split()),
    "lt": frozenset("inž pvz prof dr".split()),
    "ml": frozenset("ഡോ ശ്രീ ശ്രീമതി പ്രൊഫ".split()),
    "mr": DEVANAGARI | {"इ", "स", "कै"},
    "ms": MALAY,
    "nb": NORWEGIAN,
    "nl": frozenset("mevr mw Fam Ds d.w.z".split()),
    "nn": NORWEGIAN,
    "no": NORWEGIAN,
    "pl": frozenset("r ul al pl os prof dr inż ks płk św ok godz tj".split()),
    "pa": frozenset("ਡਾ ਸ ਸ੍ਰੀ".split()),
    "pt": frozenset(
        "pág págs av séc sécs R S D Srta Profa Arq Exma Sta Pe Dep Des núm aprox".split()
    ),
    "ro": frozenset("dl dna str cca alin lit pct".split()),
    "ru": frozenset("им рис инж св ср".split()),  # noqa: RUF001
    "sl": SERBIAN | {"št"},
    "sr": SERBIAN,
    "sv": frozenset("kl sid jfr t.ex".split()),
    "sw": frozenset("bw bi dkt mh".split()),
    "ta": frozenset("திரு திருமதி செல்வி பேரா".split()),
    "te": frozenset("డా డాక్టర్ శ్రీ శ్రీమతి ప్రొ".split()),
    "tr": frozenset("cad sok mah Av Sn doç yrd öğr bkz örn m.ö m.s i.ö i.s".split()),
    "uk": frozenset("ім рис інж св".split()),
    "vi": frozenset("ts ths gs pgs bs kts tp tx".split()),
    "zh": LATIN,
}
