package journal

import (
	"strings"
	"time"
)

// handPrefix begins the UpgradeID of what a person wrote because of no upgrade.
const handPrefix = "by-hand-"

// HandID stands for the upgrade where a person acts because of none. Each time has its own,
// so that a person may turn a flag off as often as they like.
func HandID(at time.Time) string { return handPrefix + at.UTC().Format("20060102-150405.000000000") }

// ByHand reports whether an UpgradeID was made by HandID.
func ByHand(upgradeID string) bool { return strings.HasPrefix(upgradeID, handPrefix) }

// Case is the name under which a source that keeps notes of its writes shows an action.
func (k Key) Case() string { return k.UpgradeID + "/" + k.Flag }
