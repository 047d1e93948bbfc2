package broken

func init() {}
