module taffrail.tests/play

go 1.26.0
