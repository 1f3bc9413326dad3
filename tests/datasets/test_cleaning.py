from __future__ import annotations

from inspect import cleandoc

import pytest

from zoo_lessons.datasets.cleaning import clean, sentences

NUMPYDOC = """Compute the sum of an array along an axis, and return it as a number.

The *sum* of an empty array is ``0``; see :func:`~numpy.prod` and `the guide
<https://example.org/guide>`_ for what a product of nothing is [1]_.

.. versionadded:: 1.7
   A sentence that stands in the body of a directive that is left out here.

.. note::
   A note is prose, so its text is kept, however far to the right it stands.

Parameters
----------
a : array_like
    The elements to sum, which can be anything that becomes an array.

Notes
-----
Arithmetic is modular when using integer types, and no error is raised on overflow.

- An item of a list may be a whole sentence, and then it is a paragraph of its own.
- not one

The rows of a table are no sentences, and neither is its rule:

=====  =========================================
Name   The meaning of the name is explained here.
=====  =========================================

Examples
--------
>>> np.sum([0.5, 1.5])  # The sum of the two numbers is the number two, as we know.
2.0
"""

REFERENCE = """The "while" statement is used for repeated execution as long as an
expression is true:

   while_stmt ::= "while" assignment_expression ":" suite
                  ["else" ":" suite]

This repeatedly tests the expression [1] and, if it is true, executes the
first suite. For example:

   while The_expression_of_this_code: do_the_thing(that, is, to, be, done).

object.__bool__(self)

   Called to implement truth value testing and the built-in operation
   "bool()".
"""


def test_a_docstring_keeps_its_sentences_and_nothing_else() -> None:
    assert clean(NUMPYDOC) == [
        "Compute the sum of an array along an axis, and return it as a number.",
        "The sum of an empty array is 0; see prod and the guide for what a product of nothing is.",
        "A note is prose, so its text is kept, however far to the right it stands.",
        "Arithmetic is modular when using integer types, and no error is raised on overflow.",
        "An item of a list may be a whole sentence, and then it is a paragraph of its own.",
    ]


def test_a_topic_of_the_reference_keeps_its_sentences_and_nothing_else() -> None:
    assert clean(REFERENCE) == [
        "This repeatedly tests the expression and, if it is true, executes the first suite.",
        'Called to implement truth value testing and the built-in operation "bool()".',
    ]


def test_google_style_arguments_are_left_out() -> None:
    text = """Run the thing that this function is made for, once per call.

    Args:
        x: The value that is given to the thing, which must not be empty.

    Note that the thing is not run again when the same value is given twice.
    """
    assert [paragraph.split()[0] for paragraph in clean(cleandoc(text))] == ["Run", "Note"]


def test_code_after_a_double_colon_is_left_out_until_the_indentation_ends() -> None:
    text = """Write it as you would write it in any other language, for example so::

        The code of this example is written in English, and it has a full stop.

        And so is the second paragraph of the example, which is still code.

    This paragraph is not part of the example, because it stands to the left.
    """
    found = clean(cleandoc(text))
    assert len(found) == 1 and found[0].startswith("This paragraph")


@pytest.mark.parametrize(
    "text",
    [
        "Too short to be a paragraph.",
        "it begins with a small letter, as the rest of a list's item does.",
        "The sentence of this paragraph has all its words but it does not end",
        "Shape (N, C, H, W) x y z dtype int32 n_jobs=4 axis=1 out=None ndim=2 k_max=3.",
        "The loss is \\frac{1}{2} of the sum of the squares of all of its parts.",
        "See https://example.org for all that there is to know about this and that.",
    ],
)
def test_what_is_no_prose(text: str) -> None:
    assert clean(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Use a list, e.g. Python's. It works.", ["Use a list, e.g. Python's.", "It works."]),
        ("See Eq. 3 of Vaswani et al. 2017.", ["See Eq. 3 of Vaswani et al. 2017."]),
        ("Named for R. W. Hamming. He died.", ["Named for R. W. Hamming.", "He died."]),
        ("The inverse of A. If A has one.", ["The inverse of A.", "If A has one."]),
        ('It is "so." (Is it?) Yes.', ['It is "so."', "(Is it?)", "Yes."]),
        ("Version 3.11 of os.path is new.", ["Version 3.11 of os.path is new."]),
        ("  spaces \n and lines. End.  ", ["spaces and lines.", "End."]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected
