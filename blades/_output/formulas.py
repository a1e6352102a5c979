r"""Formulas in Markdown, as models write them: pure.

``\( \)`` and ``$ $`` in a line, ``\[ \]``, ``$$ $$`` and ``\begin{align} \end{align}`` between lines. A dollar sign
follows pandoc's rule: no white space inside the signs, no digit after the second one, so "$5 and $10" stays money.

The front end typesets the text of a formula, and TeX for the web has commands that load images, run scripts and
define further commands. A formula is therefore typeset only if it knows every command and environment in it to be
harmless; any other one is shown as code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

# What one formula may have at most. The limits keep the search for its end linear.
LENGTH_LIMIT: Final = 4_000  # characters, within a line of text
LINES_LIMIT: Final = 60

_COMMAND_NAMES: Final = """
above acute aleph alpha amalg angle approx approxeq arccos arcsin arctan arg Arrowvert arrowvert ast asymp atop
backepsilon backprime backsim backsimeq backslash bar barwedge Bbb Bbbk bcancel because beta beth between bf
Big big bigcap bigcirc bigcup Bigg bigg Biggl biggl Biggm biggm Biggr biggr Bigl bigl Bigm bigm bigodot bigoplus
bigotimes Bigr bigr bigsqcup bigstar bigtriangledown bigtriangleup biguplus bigvee bigwedge binom blacklozenge
blacksquare blacktriangle blacktriangledown blacktriangleleft blacktriangleright bmod boldsymbol bot bowtie Box
boxdot boxed boxminus boxplus boxtimes bra bracevert braket breve bullet Bumpeq bumpeq cal cancel cancelto Cap cap
cases cdot cdots centerdot cfrac check checkmark chi choose circ circeq circlearrowleft circlearrowright circledast
circledcirc circleddash circledR circledS clubsuit colon coloneqq color complement cong coprod cos cosh cot coth cr
csc Cup cup curlyeqprec curlyeqsucc curlyvee curlywedge curvearrowleft curvearrowright dagger daleth dashleftarrow
dashrightarrow dashv dbinom ddagger ddddot dddot ddot ddots deg Delta delta det dfrac diagdown diagup Diamond
diamond diamondsuit digamma dim displaystyle div divideontimes dot Doteq doteq doteqdot dotplus dots dotsb dotsc
dotsi dotsm dotso doublebarwedge doublecap doublecup Downarrow downarrow downdownarrows downharpoonleft
downharpoonright ell emptyset enspace epsilon eqcirc eqsim eqslantgtr eqslantless equiv eta eth exists exp
fallingdotseq fbox Finv flat forall frac frak frown Game Gamma gamma gcd ge genfrac geq geqq geqslant gets gg ggg
gggtr gimel gnapprox gneq gneqq gnsim grave gt gtrapprox gtrdot gtreqless gtreqqless gtrless gtrsim gvertneqq hat
hbar hbox hdashline heartsuit hline hom hookleftarrow hookrightarrow hphantom hskip hslash hspace Huge huge iff
iiiint iiint iint Im imath impliedby implies in inf infty int intercal iota it jmath Join kappa ker kern ket Lambda
lambda land langle LARGE Large large LaTeX lbrace lbrack lceil ldots le leadsto left Leftarrow leftarrow
leftarrowtail leftharpoondown leftharpoonup leftleftarrows Leftrightarrow leftrightarrow leftrightarrows
leftrightharpoons leftrightsquigarrow leftthreetimes leq leqq leqslant lessapprox lessdot lesseqgtr lesseqqgtr
lessgtr lesssim lfloor lg lgroup lhd lim liminf limits limsup ll llap llcorner Lleftarrow lll llless lmoustache ln
lnapprox lneq lneqq lnot lnsim log Longleftarrow longleftarrow Longleftrightarrow longleftrightarrow longmapsto
Longrightarrow longrightarrow looparrowleft looparrowright lor lozenge lparen lrcorner Lsh lt ltimes lVert lvert
lvertneqq maltese mapsto mathbb mathbf mathbin mathcal mathclose mathfrak mathinner mathit mathnormal mathop
mathopen mathord mathpunct mathrel mathring mathrm mathscr mathsf mathstrut mathtt mathup matrix max mbox
measuredangle mho mid middle min mit mkern mod models mp mskip mspace mu multimap nabla natural ncong ne nearrow neg
negmedspace negthickspace negthinspace neq newline nexists ngeq ngeqq ngeqslant ngtr ni nLeftarrow nleftarrow
nLeftrightarrow nleftrightarrow nleq nleqq nleqslant nless nmid nobreakspace nolimits nonumber normalsize not notag
notin nparallel nprec npreceq nRightarrow nrightarrow nshortmid nshortparallel nsim nsubseteq nsubseteqq nsucc
nsucceq nsupseteq nsupseteqq ntriangleleft ntrianglelefteq ntriangleright ntrianglerighteq nu nVDash nVdash nvDash
nvdash nwarrow odot oint Omega omega ominus operatorname oplus oslash otimes over overbrace overbracket
overleftarrow overleftrightarrow overline overrightarrow overset parallel partial perp phantom Phi phi Pi pi
pitchfork pm pmatrix pmb pmod pod Pr prec precapprox preccurlyeq preceq precnapprox precneqq precnsim precsim
prescript prime prod propto Psi psi qquad quad rangle rbrace rbrack rceil Re rfloor rgroup rhd rho right Rightarrow
rightarrow rightarrowtail rightharpoondown rightharpoonup rightleftarrows rightleftharpoons rightrightarrows
rightsquigarrow rightthreetimes risingdotseq rlap rm rmoustache root rparen Rrightarrow Rsh rtimes rVert rvert scr
scriptscriptstyle scriptsize scriptstyle searrow sec setminus sf sharp shortmid shortparallel shoveleft shoveright
sideset Sigma sigma sim simeq sin sinh small smallfrown smallsetminus smallsmile smash smile spadesuit
sphericalangle sqcap sqcup sqrt sqsubset sqsubseteq sqsupset sqsupseteq square stackrel star strut Subset subset
subseteq subseteqq subsetneq subsetneqq substack succ succapprox succcurlyeq succeq succnapprox succneqq succnsim
succsim sum sup Supset supset supseteq supseteqq supsetneq supsetneqq surd swarrow tag tan tanh tau tbinom TeX text
textbf textcolor textit textnormal textrm textsf textstyle texttt textup tfrac therefore Theta theta thickapprox
thicksim thinspace tilde times tiny to top triangle triangledown triangleleft trianglelefteq triangleq triangleright
trianglerighteq tt twoheadleftarrow twoheadrightarrow ulcorner underbrace underbracket underleftarrow
underleftrightarrow underline underrightarrow underset unlhd unrhd Uparrow uparrow Updownarrow updownarrow
upharpoonleft upharpoonright uplus Upsilon upsilon upuparrows urcorner varDelta varepsilon varGamma varkappa
varLambda varliminf varlimsup varnothing varOmega varPhi varphi varPi varpi varpropto varPsi varrho varSigma
varsigma varsubsetneq varsubsetneqq varsupsetneq varsupsetneqq varTheta vartheta vartriangle vartriangleleft
vartriangleright varUpsilon varXi Vdash vDash vdash vdots vec vee veebar Vert vert vphantom Vvdash wedge widehat
widetilde wp wr xcancel Xi xi xleftarrow xrightarrow yen zeta
"""
_ENVIRONMENT_NAMES: Final = """
align alignat aligned alignedat array Bmatrix bmatrix cases dcases eqnarray equation flalign gather gathered matrix
multline pmatrix rcases smallmatrix split subarray Vmatrix vmatrix
"""
_COMMANDS: Final = frozenset(_COMMAND_NAMES.split())
_ENVIRONMENTS: Final = frozenset(_ENVIRONMENT_NAMES.split())
_command = re.compile(r"\\(?:(?:begin|end)\s*\{([A-Za-z]+)\*?\}|([A-Za-z]+))")
_environment = re.compile(r"\\begin\{([A-Za-z]+\*?)\}.*\\end\{\1\}", re.DOTALL)
_label = re.compile(r"\\label\s*\{[^{}\\]*\}")  # typeset again, a label counts as defined twice
_dollar = re.compile(r"\$(?![\s$])((?:[^$\\]|\\.)+)(?<!\s)\$(?!\d)", re.DOTALL)
_opening = re.compile(r"\\\[|\$\$|\\begin\{([A-Za-z]+\*?)\}")


def is_harmless(tex: str) -> bool:
    """Return whether a formula has no commands and environments but those known to typeset and to do nothing else."""
    return all(
        command in _COMMANDS if command else environment in _ENVIRONMENTS
        for environment, command in _command.findall(_label.sub("", tex))
    )


def add_formulas(parser: MarkdownIt) -> None:
    """Teach a Markdown parser formulas: tokens ``formula``, with the TeX as content and the display style as info."""
    parser.inline.ruler.before("escape", "formula", _parse_inline)
    parser.block.ruler.before(
        "table", "formula_block", _parse_block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )


def write_formula(tex: str, *, display: bool) -> str:
    """Return the text that a front end typesets, not yet escaped for HTML."""
    tex = _label.sub("", tex.strip())
    if display and _environment.fullmatch(tex):
        return tex
    return f"\\[{tex}\\]" if display else f"\\({tex}\\)"


def _parse_inline(state: StateInline, silent: bool) -> bool:  # the parser's interface
    source, start = state.src, state.pos
    limit = min(state.posMax, start + LENGTH_LIMIT)
    opening = source[start : start + 2]
    if opening in {"\\(", "\\[", "$$"}:
        end = source.find({"\\(": "\\)", "\\[": "\\]", "$$": "$$"}[opening], start + 2, limit)
        content, after = source[start + 2 : end], end + 2
        if end < 0 or not content.strip():
            return False
    elif opening[:1] == "$":
        found = _dollar.match(source, start, limit)
        if found is None:
            return False
        content, after = found[1], found.end()
    else:
        return False
    if not silent:
        token = state.push("formula", "", 0)
        token.content = content
        token.info = "display" if opening in {"\\[", "$$"} else "inline"
    state.pos = after
    return True


def _parse_block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:  # as above
    """Parse a formula on lines of its own. An unfinished one at the end of a growing text takes all its lines."""
    opening = None if state.is_code_block(start_line) else _opening.match(_line(state, start_line))
    if opening is None:
        return False
    closing = {"\\[": "\\]", "$$": "$$"}.get(opening[0], f"\\end{{{opening[1]}}}")
    line = _find_end(state, start_line, end_line, closing, opening.end())
    if line is None:
        return False
    if silent:
        return True
    token = state.push("formula", "", 0)
    token.block = True
    token.map = [start_line, line]
    token.content, token.info = _block_content(state.getLines(start_line, line, state.blkIndent, False), closing)
    state.line = line
    return True


def _find_end(state: StateBlock, start_line: int, end_line: int, closing: str, offset: int) -> int | None:
    """Return the line after a formula; None if this is none."""
    rest = _line(state, start_line)[offset:]
    for line in range(start_line + 1, min(end_line, start_line + LINES_LIMIT) + 1):
        _, found, after = rest.partition(closing)
        if found:
            return None if after.strip() else line
        if line == end_line:
            is_last = not state.src[state.eMarks[line - 1] :].strip()
            return line if is_last and not state.env.get("whole") else None
        if state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            return None
        rest = _line(state, line)
    return None


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _block_content(text: str, closing: str) -> tuple[str, str]:
    """Return a block's TeX and its style, which is "open" for one that has not ended."""
    text = text.strip()
    body, found, _ = text.rpartition(closing)
    if closing.startswith("\\end"):
        return (body + found, "display") if found else (text, "open")
    if not found or len(body) < 2:  # of "$$" alone, the opening is the closing
        return text, "open"
    return body.strip()[2:], "display"
