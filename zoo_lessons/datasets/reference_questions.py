"""Questions about Python, with the paragraph of the language reference that answers each.

A test for search. We wrote the questions for this course: we chose paragraphs of
`prose.paragraphs("reference")` and asked what they answer, in one of two ways:

- "own words": as someone might ask who does not know the terms of the reference;
- "named": by exact name, such as a method or a keyword, as one would type it into a search box.

The first kind is hard for a search that compares words, and the second is easy: that is the point
of having both.

An answer is given by the first words of its paragraph. Some questions have two good paragraphs;
finding one is enough. There may be others that answer too and are counted as wrong, so figures are
a little too low. Since we knew the answers when we asked, the questions are no sample of what
people ask: they compare methods, and do not grade one.

Another version of Python words some paragraphs differently. `questions` leaves out what it can no
longer answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from zoo_lessons.datasets.prose import paragraphs

Kind = Literal["own words", "named"]


class ReferenceQuestion(NamedTuple):
    """A question and the indices of the paragraphs that answer it."""

    text: str
    kind: Kind
    answers: tuple[int, ...]


def questions(passages: Sequence[str] | None = None) -> list[ReferenceQuestion]:
    """The questions that these passages can answer; answers are indices into `passages`.

    Args:
        passages: by default `prose.paragraphs("reference")`, all of them.
    """
    passages = paragraphs("reference") if passages is None else passages
    found = []
    for kind, asked in _QUESTIONS.items():
        for text, beginnings in asked.items():
            beginnings = (beginnings,) if isinstance(beginnings, str) else beginnings
            answers = tuple(i for i, text in enumerate(passages) if text.startswith(beginnings))
            if answers:
                found.append(ReferenceQuestion(text, kind, answers))
    return found


_QUESTIONS: dict[Kind, dict[str, str | tuple[str, ...]]] = {
    "own words": {
        "Why does my empty list argument still hold items from the last time I ran the function?": (
            "Default parameter values are evaluated from left to right"
        ),
        "What is the order of items when I loop over a lookup table?": (
            "Dictionaries preserve insertion order, meaning",
            "Dictionaries preserve insertion order. Note that updating",
            "Keys and values are iterated over in insertion order",
        ),
        "Can I count on clean-up code running when the program stops?": (
            "It is not guaranteed that"
        ),
        "How do I get rid of the file handle even if something goes wrong in between?": (
            'The "with" statement is used to wrap the execution of a block',
            'Some objects contain references to "external" resources',
        ),
        "Why can't I use a list to look something up by?": (
            "These represent finite sets of objects indexed by nearly arbitrary values",
            "A dictionary's keys are almost arbitrary values",
        ),
        "Does sorting keep people with the same age in their old order?": (
            'The "sort()" method is guaranteed to be stable'
        ),
        "Why is gluing many pieces of text together in a loop so slow?": (
            "Concatenating immutable sequences always results in a new object"
        ),
        "Why did changing one row of my grid of zeros change all rows?": (
            'Values of n less than "0" are treated as "0"'
        ),
        "How can I save memory when I have millions of small objects?": (
            'The space saved over using "__dict__" can be significant'
        ),
        "How do I make my own objects callable like a function?": (
            "Instances of arbitrary classes can be made callable"
        ),
        "What happens if my program divides by zero?": (
            "The Python interpreter raises an exception when it detects a run-time error"
        ),
        "How do I show both the original error and the new one that it led to?": (
            'The "from" clause is used for exception chaining'
        ),
        "Throw the same error again after I have logged it": (
            'If no expressions are present, "raise" re-raises'
        ),
        "What does a loop do after it has finished without being stopped early?": (
            'A "break" statement executed in the first suite terminates the loop'
        ),
        "Which value has the counter once the loop is over?": (
            "Names in the target list are not deleted when the loop is finished",
            'If a "for" loop is terminated by "break", the loop control target keeps',
        ),
        "How can an inner function change a variable of the function around it?": (
            'The "nonlocal" statement causes the listed identifiers',
            'The "nonlocal" statement causes corresponding names',
        ),
        "Which things count as false in a condition?": (
            "In the context of Boolean operations, and also when expressions are used",
            "By default, an object is considered true unless",
        ),
        "How is it decided which of two texts comes first in the alphabet?": (
            'Strings (instances of "str") compare lexicographically'
        ),
        "How do I compare words without caring about capital letters?": (
            "Return a casefolded copy of the string",
            "Casefolding is similar to lowercasing",
        ),
        "Remove blanks from both ends of a line": (
            "The outermost leading and trailing chars argument values are stripped"
        ),
        "Put commas between thousands when printing big numbers": (
            "The \"','\" option signals the use of a comma for a thousands separator"
        ),
        "How many digits are there after the point when I print a decimal number?": (
            "The precision is a decimal integer indicating how many digits"
        ),
        "How large can a whole number get?": (
            'Integers ("int") These represent numbers in an unlimited range',
            "There is no limit for the length of integer literals",
        ),
        "Why does a huge counting sequence need so little memory?": (
            'The advantage of the "range" type over a regular "list" or "tuple"'
        ),
        "When is memory given back after I am done with an object?": (
            "Objects are never explicitly destroyed"
        ),
        "Is it the brackets or the comma that makes a pair of values?": (
            "Note that it is actually the comma which makes a tuple",
            "The trailing comma is required only to create a single tuple",
        ),
        "Swap two variables without a helper variable": (
            "Although the definition of assignment implies that overlaps"
        ),
        "Short function without a name": (
            "Lambda expressions (sometimes called lambda forms) are used",
            "It is also possible to create anonymous functions",
        ),
        "How do I turn on language features of later releases?": (
            "A future statement is a directive to the compiler"
        ),
        "Stop the program at one line only when a counter has reached ten": (
            "If a second argument is present, it is an expression which must evaluate to true",
            "Set a new condition for the breakpoint",
        ),
        "What do I get back from a function that has no return?": (
            "This object is returned by functions that don't explicitly return a value",
            'If an expression list is present, it is evaluated, else "None" is substituted',
        ),
        "How can I make two of my objects usable with the plus sign?": (
            "The following methods can be defined to emulate numeric objects"
        ),
        "Pass the contents of a mapping as named arguments": (
            'If the syntax "**expression" appears in the function call'
        ),
        "Change the settings of a class just while it is being made from its parents": (
            "Whenever a class inherits from another class",
        ),
    },
    "named": {
        "popitem": 'Remove and return a "(key, value)" pair from the dictionary. Pairs',
        "setdefault default value": "If key is in the dictionary, return its value. If not, insert",
        "casefold": (
            "Return a casefolded copy of the string",
            "Casefolding is similar to lowercasing",
        ),
        "__init_subclass__": (
            "Whenever a class inherits from another class",
            'The "__init_subclass__()" hook is called on the immediate parent',
        ),
        "__missing__ in a subclass of dict": (
            'If a subclass of dict defines a method "__missing__()"',
            'Called by "dict"."__getitem__()" to implement "self[key]" for dict subclasses',
        ),
        "co_flags bit": 'The following flag bits are defined for "co_flags"',
        "import * and __all__": (
            "The public names defined by a module are determined",
            "If the list of identifiers is replaced by a star",
        ),
        ".pdbrc": (
            'If a file ".pdbrc" exists',
            'Changed in version 3.2: ".pdbrc" can now contain',
            'Changed in version 3.11: ".pdbrc" is now read',
        ),
        "StopIteration return in a generator": 'In a generator function, the "return" statement',
        "__slots__ weak references": "Without a __weakref__ variable for each instance",
        "NFKC identifiers": "All identifiers are converted into the normal form NFKC",
        "__match_args__ positional patterns": (
            "When using a class name in a pattern, positional arguments in the pattern",
            'For example, if "MyClass.__match_args__" is',
            "Otherwise, positional pattern",
            "This class variable can be assigned a tuple of strings. When this class is used",
            "If there are more positional patterns than",
        ),
        "__suppress_context__": 'New in version 3.3: The "__suppress_context__" attribute',
        "__enter__ __exit__ context manager": (
            'The "with" statement guarantees that if the "__enter__()" method returns',
            "A context manager is an object that defines the runtime context",
        ),
    },
}
