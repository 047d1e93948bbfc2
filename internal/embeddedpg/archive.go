package embeddedpg

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// archive is one build that Fetch may download: a jar of the project
// zonkyio/embedded-postgres-binaries.
type archive struct {
	platform string // as that project names it, such as "linux-arm64v8"
	version  string // with a third number that counts its repackagings: 18.6.0
	sha256   string // of the jar
	size     int64  // of the jar, in bytes
}

// archives are the builds that were downloaded and looked at when they were
// pinned, one per platform and major version. To move to a newer one, replace its
// line with the new version's checksum.
func archives() []archive {
	return []archive{
		{"linux-amd64", "18.6.0", "008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1", 15119738},
		{"linux-amd64", "17.11.0", "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d", 14987378},
		{"linux-amd64", "16.15.0", "653abc065c682b85d3da50168fb95dc524bd85426cdec9ce3695a550ef431df2", 14737226},
		{"linux-amd64", "15.19.0", "95f0b66fe72d4ca66c815773c44cb1196ea38552463e89a35f18114b3ed1565f", 14629992},
		{"linux-amd64", "14.24.0", "2722d05eb22c671104c9918d59d8ba9f5656898f5452a0207bb4cce21eef5dc4", 14500812},
		{"linux-arm64v8", "18.6.0", "5f54e016723afa6213925a8acb939bac52944b1d348f65c7a20f0cd2928c31be", 14142322},
		{"linux-arm64v8", "17.11.0", "8b042e0ea418b1927d95399207950da0734d27fe01e29503ade3bdc464ad4c2b", 14015430},
		{"linux-arm64v8", "16.15.0", "f846a9989d686b7977d6eca9bc9d8b2b69e3f70c7eb60e032197d9c574a6136c", 13744494},
		{"linux-arm64v8", "15.19.0", "95baf4bd4af31b91b3050118df59388ed0064756b556b850669e0300aa7b9911", 13686798},
		{"linux-arm64v8", "14.23.0", "a55b93f67051a602be033b298461709f88789dccee925236f2fb5a4eaf9dd526", 13655000},
		{"linux-amd64-alpine", "18.6.0", "1568b3805c3a3b99b5f4f0d7f6cf16e2a39075462ed47a614bfbabd92508350d", 14856560},
		{"linux-amd64-alpine", "17.11.0", "ace9a6f95b1c98ce84c9841267cd04ebee5d7de5dc7b8fea148ead44f145afbd", 14730308},
		{"linux-amd64-alpine", "16.15.0", "6bcfdb579fae7fb11e6ea2dba2cc8086c14cc58506db49ad36ce4d70de250dd6", 14520043},
		{"linux-amd64-alpine", "15.19.0", "a04a72fb429fed3624507f54244a69f43be491c67f744e58c1a3696a67262aab", 14368642},
		{"linux-arm64v8-alpine", "16.15.0", "1842bbbb3232a9f14fe86609d902f76a9b763b11f9bd1c46c1c33b6a2c874409", 14000067},
		{"darwin-arm64v8", "18.6.0", "8f6ed6f38195b50a40712ada8b2a12060b6193c1a6977a6eb5cff053bb5a1b89", 71185174},
		{"darwin-arm64v8", "17.11.0", "a1c2786acb0c398f9b2d76806fc52f5dc8b222cbc8e9383a9b9702084daaf3a5", 62141006},
		{"darwin-arm64v8", "16.15.0", "65b953905f0a4d46030767a6b44a52360170d69a7985f1b02aa435f2f6256a83", 61884586},
		{"darwin-arm64v8", "15.19.0", "9bfc44d3f50298bb14fa125da4b67a36f382f8134ab2fc95349b72bcd5ec4e87", 61269320},
		{"darwin-arm64v8", "14.23.0", "b3afa06270a5db96748ded366b9af590b29035ce16677e88c8ab65d0c455f613", 28203296},
		{"darwin-amd64", "18.6.0", "690941008aac9ee360820fde9bb7870a4f3dcac5e9e2f9e45e42333a436ad0f9", 71185174},
		{"darwin-amd64", "17.11.0", "d464ff178e9860ba204662ac23fa547504b7fd392392ff2fb92e3fd73b5bdb64", 62141006},
		{"darwin-amd64", "16.15.0", "1229188b99515d2160d5cb6222bc96d9c5f3a248268df3bc2dfe0047e6c233d8", 61884586},
		{"darwin-amd64", "15.19.0", "11d0a55e26f4c74c6ea6c72c5e4e6ac959b29a06cc6da5e5ac8162f9fd9f8055", 61269320},
		{"windows-amd64", "18.6.0", "b7ef2d03588e0439f0d0a2250f43905f7464f1e96ace47703ceaf79094198150", 25366735},
		{"windows-amd64", "17.11.0", "98040fae18dd9633ff95932125b0cecf0a45a1a9312e216e2a33ad03a31d4251", 23812556},
		{"windows-amd64", "16.15.0", "51c7812dc1af47c9a2ccb64fe74efb88c515cff2da347ce72aab92b4cc8e1191", 23446545},
		{"windows-amd64", "15.19.0", "ae650ee09866166ae357c890bcbc391a9b29202e9400efe59086c1579ea036d1", 22630596},
	}
}

// pinned returns the build of a major version for this machine; the newest one
// when major is 0.
func pinned(platform string, major int) (archive, error) {
	for _, a := range archives() { // newest first per platform
		if a.platform == platform && (major == 0 || a.major() == major) {
			return a, nil
		}
	}
	return archive{}, fmt.Errorf("no build of PostgreSQL %d is known for %s: install it by other means", major, platform)
}

// server returns the version as `postgres --version` says it: 18.6 of 18.6.0.
func (a archive) server() string {
	return strings.TrimSuffix(a.version, ".0")
}

func (a archive) major() int {
	first, _, _ := strings.Cut(a.version, ".")
	n, _ := strconv.Atoi(first) // the table is tested
	return n
}

// file returns the end of the download's URL, which shows which request is ours.
func (a archive) file() string {
	return "embedded-postgres-binaries-" + a.platform + "-" + a.version + ".jar"
}

// platform returns the name of this machine's kind, by the rules of the library
// that downloads (fergusstrange/embedded-postgres, version_strategy.go).
func platform() string {
	arch := runtime.GOARCH
	if arch == "arm64" && runtime.GOOS != "windows" {
		arch = "arm64v8"
	}
	if _, err := os.Stat("/etc/alpine-release"); err == nil && runtime.GOOS == "linux" {
		arch += "-alpine"
	}
	return runtime.GOOS + "-" + arch
}
