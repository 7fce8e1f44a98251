package main

import (
	"fmt"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/transitd/transitd/pkg/config"
)

// newLogger makes the logger of the configuration, on out: for people on a
// terminal, one JSON object a line otherwise. The level can be changed later.
func newLogger(c config.Log, out *os.File) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, level, fmt.Errorf("log level: %w", err)
	}
	terminal := term.IsTerminal(int(out.Fd()))
	console := c.Format == "console" || c.Format == "auto" && terminal
	var enc zapcore.Encoder
	if console {
		ec := zap.NewDevelopmentEncoderConfig()
		ec.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		ec.EncodeLevel = zapcore.CapitalLevelEncoder
		if terminal && os.Getenv("NO_COLOR") == "" {
			ec.EncodeLevel = zapcore.CapitalColorLevelEncoder
		}
		ec.CallerKey = ""
		enc = zapcore.NewConsoleEncoder(ec)
	} else {
		ec := zap.NewProductionEncoderConfig()
		ec.TimeKey, ec.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
		ec.EncodeDuration = zapcore.StringDurationEncoder
		enc = zapcore.NewJSONEncoder(ec)
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(out), level), zap.ErrorOutput(zapcore.Lock(out))), level, nil
}
