package worksql

import (
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// TestProtocol runs all tests of the functions, on every version. The tests of a
// version share its cluster; each has a database of its own.
func TestProtocol(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, w table)
	}{
		{"TakeOverDoesNotPassSettling", takeOverDoesNotPassSettling},
		{"SettlingMeetsTakeOver", settlingMeetsTakeOver},
		{"UpdateAloneFencesNobody", updateAloneFencesNobody},
		{"HeartbeatBesideSettling", heartbeatBesideSettling},
		{"CheckpointIsCompareAndAppend", checkpointIsCompareAndAppend},
		{"OtherIsolationIsRefused", otherIsolationIsRefused},
		{"LanesAreSharedFairly", lanesAreSharedFairly},
		{"OwnLanesAreTakenAnew", ownLanesAreTakenAnew},
		{"RenewAndRelease", renewAndRelease},
		{"TrimKeepsTheNewest", trimKeepsTheNewest},
		{"FetchMissesNothing", fetchMissesNothing},
		{"FetchOfManyLanes", fetchOfManyLanes},
		{"FetchDoesNotPassWhatIsBeingWritten", fetchDoesNotPassWhatIsBeingWritten},
		{"FetchFindsWhatHasNoBatch", fetchFindsWhatHasNoBatch},
		{"FetchCostsWhatItReturns", fetchCostsWhatItReturns},
		{"FetchOfManyStreams", fetchOfManyStreams},
		{"StartsAndFloors", startsAndFloors},
		{"ParkingHoldsTheKey", parkingHoldsTheKey},
		{"DeadMayBlockItsKey", deadMayBlockItsKey},
		{"ReplayHoldsNothing", replayHoldsNothing},
		{"ScheduledHoldsNothing", scheduledHoldsNothing},
		{"PartitionsMayGo", partitionsMayGo},
		{"ParkedIsBounded", parkedIsBounded},
		{"ResetFencesAll", resetFencesAll},
		{"SubscribingIsOneAtATime", subscribingIsOneAtATime},
		{"ParkAndBuryAreFenced", parkAndBuryAreFenced},
		{"DoneBelongsToTheEffects", doneBelongsToTheEffects},
		{"NextRefusesAfterAWrite", nextRefusesAfterAWrite},
		{"LateDoneIsFenced", lateDoneIsFenced},
		{"FailTakesItsFollowers", failTakesItsFollowers},
		{"EmptyLanesMoveOn", emptyLanesMoveOn},
		{"EffectsAreOnceAndInOrder", effectsAreOnceAndInOrder},
		{"NextIsSafeAtOnce", nextIsSafeAtOnce},
		{"PsqlIsAWorker", psqlIsAWorker},
		{"DocumentedRightsAreEnough", documentedRightsAreEnough},
		{"NothingIsForEverybody", nothingIsForEverybody},
		{"WaitForNeverAnswersTooEarly", waitForNeverAnswersTooEarly},
	}
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		t.Parallel()
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, newTable(t, c))
			})
		}
	})
}
