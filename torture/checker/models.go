package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// A write whose outcome is unknown and whose value nobody has ever seen is left out of a history, since it may not have been
// executed: values are unique, and no other operation depends on one that nobody saw. That keeps the number of operations
// that are open for ever small, on which the cost of the check depends.

// register is an operation on a register.
type register struct {
	f               string
	expected, value int64
}

// registerModel has the value as its state. A compare-and-set that found another value is no part of a history.
var registerModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		switch op := input.(register); op.f {
		case "write":
			return true, op.value
		case "cas":
			return state == op.expected, op.value
		default:
			return state == output, state
		}
	},
	DescribeOperation: func(input, output any) string {
		switch op := input.(register); op.f {
		case "write":
			return fmt.Sprintf("write %d", op.value)
		case "cas":
			return fmt.Sprintf("%d to %d", op.expected, op.value)
		default:
			return fmt.Sprintf("%s: %v", op.f, output)
		}
	},
}

func registerHistory(operations []*operation) (history, error) {
	type parsed struct {
		operation *operation
		input     register
		output    any
	}
	var all []parsed
	seen := map[int64]bool{}
	for _, one := range operations {
		next := parsed{operation: one, input: register{f: one.invoke.F}}
		var err error
		switch one.invoke.F {
		case "write":
			err = json.Unmarshal(one.invoke.Value, &next.input.value)
		case "cas":
			var pair [2]int64
			err = json.Unmarshal(one.invoke.Value, &pair)
			next.input.expected, next.input.value = pair[0], pair[1]
			if one.output != nil {
				seen[pair[0]] = true
			}
		case "read", "confirmed-read":
			if one.output == nil {
				continue
			}
			var value int64
			err = json.Unmarshal(one.output.Value, &value)
			seen[value], next.output = true, value
		default:
			err = fmt.Errorf("there is no operation %q", one.invoke.F)
		}
		if err != nil {
			return history{}, err
		}
		all = append(all, next)
	}
	// What an unknown compare-and-set expected was seen only if its own value was.
	for changed := true; changed; {
		changed = false
		for _, one := range all {
			if one.input.f == "cas" && seen[one.input.value] && !seen[one.input.expected] {
				seen[one.input.expected], changed = true, true
			}
		}
	}
	result := history{model: registerModel}
	for _, one := range all {
		writes := one.input.f == "write" || one.input.f == "cas"
		if writes && one.operation.output == nil && !seen[one.input.value] {
			continue
		}
		plain := one.input.f == "read"
		result.operations = append(result.operations, complete(one.operation, one.input, one.output, plain))
	}
	return result, nil
}

// transaction appends an id to the lists that are marked, after it has read both.
type transaction struct {
	ID    int64   `json:"id"`
	Lists [2]bool `json:"lists"`
}

type lists [2][]int64

func (l lists) equal(other lists) bool {
	return slices.Equal(l[0], other[0]) && slices.Equal(l[1], other[1])
}

// listsModel has both lists as its state: transactions of a group are strictly serializable if they take effect one after
// the other between their beginning and their end.
var listsModel = porcupine.Model{
	Init:  func() any { return lists{} },
	Equal: func(one, other any) bool { return one.(lists).equal(other.(lists)) },
	Step: func(state, input, output any) (bool, any) {
		now := state.(lists)
		if read, known := output.(lists); known && !now.equal(read) {
			return false, now
		}
		op := input.(transaction)
		next := now
		for number, chosen := range op.Lists {
			if chosen {
				next[number] = append(slices.Clip(now[number]), op.ID)
			}
		}
		return true, next
	},
	DescribeOperation: func(input, output any) string {
		op := input.(transaction)
		if op.ID == 0 {
			return fmt.Sprintf("read %v", output)
		}
		return fmt.Sprintf("append %d to %v of %v", op.ID, op.Lists, output)
	},
}

func listsHistory(operations []*operation) (history, error) {
	type parsed struct {
		operation *operation
		input     transaction
		output    any
	}
	var all []parsed
	seen := map[int64]bool{}
	for _, one := range operations {
		next := parsed{operation: one}
		var read lists
		var err error
		switch one.invoke.F {
		case "append":
			err = json.Unmarshal(one.invoke.Value, &next.input)
			if err == nil && one.output != nil {
				answer := struct{ Before *lists }{&read}
				err = json.Unmarshal(one.output.Value, &answer)
			}
		case "read-lists":
			if one.output == nil {
				continue
			}
			err = json.Unmarshal(one.output.Value, &read)
		default:
			err = fmt.Errorf("there is no operation %q", one.invoke.F)
		}
		if err != nil {
			return history{}, err
		}
		if one.output != nil {
			next.output = read
		}
		for _, list := range read {
			for _, id := range list {
				seen[id] = true
			}
		}
		all = append(all, next)
	}
	result := history{model: listsModel}
	for _, one := range all {
		if one.operation.output == nil && !seen[one.input.ID] {
			continue
		}
		plain := one.operation.invoke.F == "read-lists"
		result.operations = append(result.operations, complete(one.operation, one.input, one.output, plain))
	}
	return result, nil
}
