"""The story that the storyteller tells, in Markdown."""

__all__ = ["STORY"]

STORY = """\
The keeper climbed the stairs each evening before the sun had touched the water, and each evening he \
counted the steps aloud, as if the number could change while he slept. It never did. What changed was the \
sea.

He kept a list of the things that he had seen from the gallery:

1. a **whale** that had lost its way,
2. the lamp of another lighthouse, *very* far off,
3. a boat without a sail, and without oars.

> Count the steps, his father had said. One day there will be one more.

The lamp had a timetable of its own:

```text
19:40  light
05:10  dark
```

On the last night of the year the keeper counted `two hundred and one`. He stood still, went down again, \
and counted once more. Two hundred. Then he sat down on the lowest step and waited for the morning, \
because whoever had made the other step would have to come past him. Nobody came. In the morning there \
was salt on the floor of the gallery, and the lamp was warm, and the book in which he wrote the weather \
had a line that he did not know: calm, clear, a light to the west. He wrote the date below it and climbed \
the stairs."""
