"""Answers that are looked at, as models write them."""

CHINESE = """# 为什么调和级数发散?

调和级数 $\\sum_{n=1}^{\\infty} \\frac{1}{n}$ **发散**,虽然它的项趋于零。价格是 $5 和 $10,不是公式。

1. 把项分组:\\(\\frac13+\\frac14 > \\frac12\\);
2. 每一组都大于 $\\frac{1}{2}$;
3. 所以部分和没有上界。

> 结论:收敛的必要条件不是充分条件。
"""
TABLES = """## Two tables

| Language | Typed | Speed |
|:---------|:-----:|------:|
| Python   | no    | 1.0   |
| C        | yes<br>(weakly) | 60.5 |
| Rust     | **yes** | 58.1 |

| H<sub>2</sub>O | $x^2$ | `code \\| pipe` | 中文 |
|---|---|---|---|
| water | square | a link: [docs](https://docs.example/a_b) | 表格 |

An image: ![a chart](https://e.example/chart.png). ~~Struck~~, *emphasis*, **strong**, `inline code`, <https://e.example>.

- [x] done
- [ ] open
  - nested
"""
FORMULAS = """## Formulas

Inline \\(e^{i\\pi} + 1 = 0\\) and $a_1 * b_2 * c_3$, display in a line: $$\\int_0^1 x^2\\,dx = \\frac13$$ and so on.

\\[
\\nabla \\times \\mathbf{E}
= -\\frac{\\partial \\mathbf{B}}{\\partial t}
+ 0
\\]

$$
A = \\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}, \\quad \\det A < 0
$$

\\begin{align}
(a+b)^2 &= a^2 + 2ab + b^2 \\\\
(a-b)^2 &= a^2 - 2ab + b^2
\\end{align}

It costs $5 and $10, or US$20-$30. A path C:\\temp\\(x86\\). Refused: $\\href{javascript:alert(1)}{click}$.

- In a list: $\\sqrt{2}$
  $$
  x = y
  $$
"""
CODE = """## Code

```python
@cache
def greet(name: str) -> str:
    \"\"\"Return <b>HTML</b> & $5.\"\"\"
    return f"Hello, {name}!"  # a comment
```

```c
#include <stdio.h>
int main(void) { printf("%d\\n", 42); return 0; }
```

```html
<p onclick="alert(1)">$x$ <img src="https://e.example/x.png"></p>
```

```mermaid
graph TD; A --> B
```

```
no language: \\(x\\) <tag>
```
"""
REASONING = "The user asks for the reason. Grouping the terms is the shortest proof."
ANSWER = """**It diverges**, although its terms go to zero. Group them:

$$
1 + \\frac12 + \\underbrace{\\frac13 + \\frac14}_{> \\frac12}
  + \\underbrace{\\frac15 + \\dots + \\frac18}_{> \\frac12} + \\dots
$$

Each group is larger than \\(\\tfrac12\\), so the sums \\(H_n\\) pass every bound, if slowly:

| \\(n\\) | \\(H_n\\) |
|------:|------:|
| 10 | 2.93 |
| 1,000 | 7.49 |
| 1,000,000 | 14.39 |

```python
sum(1 / k for k in range(1, 1_001))  # 7.485...
```
"""


def long_answer(words: int) -> str:
    """Return an answer of so many words, with everything in it."""
    paragraph = " ".join(["The quick brown fox jumps over the lazy dog, and $x_{i}$ stays **bold** in `code`."] * 5)
    section = f"## Section\n\n{paragraph}\n\n{paragraph}\n\n{TABLES}\n{FORMULAS}\n{CODE}\n"
    return section * (words // len(section.split()) + 1)
