// Package calibrate measures whether the product keeps the rates that it promises, on
// simulated upgrades with a known truth: false alarms, what is found and how soon, wrong
// blame, the coverage of intervals, recovery, determinism and cost.
//
// An experiment draws families of services and counts in each; the counts of families add up,
// with the sums that their clustered variance takes, and can be kept and gone on with. The
// bars of research/statistics.md sections 5 and 8 turn the counts into rows: a figure, its
// interval, the bar, and whether it holds within twice the standard error between services.
//
// Everything is judged by the packages that the product judges with. It is no part of the
// product: nothing imports it but its command.
package calibrate
