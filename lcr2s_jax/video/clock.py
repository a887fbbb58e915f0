"""When a frame is, whatever the file's own clock says: seconds from 0 that never go back."""

from typing import NamedTuple

_BACK = 0.5  # seconds: a clock that goes back by more has begun anew; by less, frames came out of order
_HELD = 3  # frames out of order in a row; more, and the clock stands still
_AHEAD = 10.0  # seconds without a frame, after which another scene may begin
_GAP = (1.0, 5)  # seconds, and steps, without a frame that are told; phones vary their rate by less
_WRAP = 2**33 / 90_000  # seconds: a round of the clock of MPEG-TS, 26.5 hours
_RATES = (0.05, 1000.0)  # frames a second that are believed


class Jump(NamedTuple):
    """Where a clock does not go on as it did."""

    seconds: float  # of the first frame after it, by the time that is given out
    by: float  # seconds; below 0, the clock went back and the time goes on from the last frame


class Clock:
    """The time of one frame after the other, by a container's frames a second, which may be anything.

    A clock may begin late (MPEG-TS), go back (streams that were joined, cameras that set their clock), leap ahead (a
    camera that records only what moves), stand still, or be missing (bare streams).

    Attributes:
      jumps: those of more than half a second back or ten ahead.
      gaps: times without a frame that are no jumps, where frames may be lost.
      breaks: places where another scene may begin: the jumps, and frames with a clock of their own.
      step: seconds from frame to frame, where nothing else tells.
      wrapped: whether a day was taken away from it: the container's length and number of frames have that day, too.
    """

    def __init__(self, rate: float):
        believed = _RATES[0] <= rate <= _RATES[1]  # False of nan
        self.jumps: list[Jump] = []
        self.gaps: list[Jump] = []
        self.breaks, self.wrapped = 0, False
        self.step = 1 / rate if believed else 0.04
        self._ahead = max(_AHEAD, 3 * self.step)
        self._first: float | None = None
        self._blank = False  # the last frame had no clock
        self._moves, self._doubted, self._offset, self._told, self._last, self._held = False, False, 0.0, 0.0, 0.0, 0

    def at(self, told: float) -> float:
        """Seconds of the next frame, of which the file's clock says `told`."""
        if self._first is None:
            self._first, self._offset, self._told = told, -told, told
            return 0.0
        if not self._moves and told == self._first:  # no clock, as far as one can see
            return self._on(self.step)
        self._moves = True
        if told - self._told < -_BACK:
            if told == 0 and not self._blank:  # OpenCV's for none, as the last one of MPEG-PS has: the next one tells
                self._blank, self.breaks = True, self.breaks + 1
                return self._on(self.step)
            self.breaks -= self._blank
            self._jump(self._last + self.step * (not self._blank), told - self._told)
            self._offset = self._last + self.step - told
        self._blank = False
        ahead = told + self._offset - self._last
        if ahead > self._ahead and not self._doubted:  # one frame's clock may be wrong: the next one tells
            self._doubted, self.breaks = True, self.breaks + 1
            return self._on(self.step)
        if ahead > _WRAP / 2:  # FFmpeg takes a clock that goes back far for one that has begun a new round
            self._jump(self._last + self.step, ahead - _WRAP)
            self.wrapped = True
            ahead, self._offset = self.step, self._last + self.step - told
        if ahead > self._ahead:
            self._jump(told + self._offset, ahead)
        elif ahead > max(_GAP[0], _GAP[1] * self.step):
            self.gaps.append(Jump(told + self._offset, ahead))
        self._told, self._doubted = told, ahead > self._ahead  # whose clock leaps again and again is believed
        self._held = 0 if ahead > 0 else self._held + 1
        return self._on(ahead if ahead > 0 else self.step * (self._held > _HELD))

    def _on(self, seconds: float) -> float:
        self._last += seconds
        return self._last

    def _jump(self, seconds: float, by: float) -> None:
        self.jumps.append(Jump(seconds, by))
        self.breaks += 1
