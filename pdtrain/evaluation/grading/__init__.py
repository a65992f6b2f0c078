"""Grade answers: metrics, intervals, a judge, and the manner of an answer."""
