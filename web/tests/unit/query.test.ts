import { describe, expect, it } from 'vitest';
import { atByte, condition, conditions, marked, marks, pieces, quoted, toggled, traceId } from '../../src/lib/query';

describe('pieces', () => {
  const cases: [string, string][] = [
    ['token', 'word:token'],
    ['service:checkout', 'field:service op:: value:checkout'],
    ['severity>=warn "token expired"', 'field:severity op:>= value:warn string:"token expired"'],
    ['-url.path:/health', 'not:- field:url.path op:: value:/health'],
    ['a AND (b OR c)', 'word:a keyword:AND paren:( word:b keyword:OR word:c paren:)'],
    ['x:(a OR "b c")', 'field:x op:: paren:( value:a keyword:OR string:"b c" paren:)'],
    ['/time ?out/', 'regex:/time ?out/'],
    ['x:/a\\/b c/ d', 'field:x op:: regex:/a\\/b c/ word:d'],
    ['http://host/path', 'word:http://host/path'],
    ['~"ken exp" ~ken', 'string:~"ken exp" word:~ken'],
    ['@"odd name":x', 'field:@"odd name" op:: value:x'],
    ['"never closed', 'string:"never closed'],
    ['duration!=5ms', 'field:duration op:!= value:5ms'],
  ];
  it.each(cases)('%s', (text, want) => {
    expect(pieces(text).map((piece) => `${piece.kind}:${text.slice(piece.from, piece.to)}`).join(' ')).toBe(want);
  });
  it('covers every character that is no space, whatever is written', () => {
    let state = 7;
    const random = (n: number) => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % n;
    const letters = 'ab:"\\/()-~* >=<!@.é🧵\n';
    const all = [...letters];
    for (let run = 0; run < 3000; run += 1) {
      const text = Array.from({ length: random(24) }, () => all[random(all.length)]).join('');
      const list = pieces(text);
      let at = 0;
      for (const piece of list) {
        expect(text.slice(at, piece.from).trim(), JSON.stringify(text)).toBe('');
        expect(piece.to).toBeGreaterThan(piece.from);
        at = piece.to;
      }
      expect(text.slice(at).trim(), JSON.stringify(text)).toBe('');
    }
  });
});

describe('conditions', () => {
  it.each<[string, string[] | undefined]>([
    ['', []],
    ['a b', ['a', 'b']],
    ['service:x -severity:info "a b"', ['service:x', '-severity:info', '"a b"']],
    ['x:(a OR b) c', ['x:(a OR b)', 'c']],
    ['(a OR b) c', ['(a OR b)', 'c']],
    ['-(a b) c', ['-(a b)', 'c']],
    ['a OR b', undefined],
  ])('%s', (text, want) => expect(conditions(text)).toEqual(want));

  it.each<[string, string, string | null, boolean, string]>([
    ['', 'service', 'x', false, 'service:x'],
    ['a', 'service', 'x', true, 'a -service:x'],
    ['service:x a', 'service', 'x', false, 'a'],
    ['service:x a', 'service', 'x', true, 'a -service:x'],
    ['-service:x', 'service', 'x', false, 'service:x'],
    ['a OR b', 'service', 'x', false, '(a OR b) service:x'],
    ['*', 'k', 'a "b"', false, 'k:"a \\"b\\""'],
    ['', 'k', null, false, '-k:*'],
    ['', 'k', null, true, 'k:*'],
  ])('%s with %s', (text, field, value, exclude, want) => expect(toggled(text, field, value, exclude)).toBe(want));

  it('adding and taking away leaves what was', () => {
    for (const value of ['x', 'a b', 'OR', '-x', '(', '"', '\\', '10.0.0.0/8', '*', 'é']) {
      const added = toggled('a "b c"', 'f', value);
      expect(conditions(added)).toContain(condition('f', value));
      expect(toggled(added, 'f', value)).toBe('a "b c"');
    }
  });
});

it('quotes what would mean something else', () => {
  expect(['a', 'a.b-c_d', '5', 'a b', 'NOT', 'a*', '', '/x/', 'a:b', '-a'].map(quoted)).toEqual(['a', 'a.b-c_d', '5', '"a b"', '"NOT"', '"a*"', '""', '"/x/"', '"a:b"', '"-a"']);
});

it('finds the place of a byte', () => {
  expect([0, 1, 3, 5, 9].map((byte) => atByte('aé🧵b', byte))).toEqual([0, 1, 2, 4, 5]);
});

it('knows trace ids', () => {
  const id = '4BF92F3577B34DA6A3CE929D0E0E4736';
  expect([id, `trace:${id}`, ` "${id}" `, `${id}0`, '0'.repeat(32), 'x'].map(traceId)).toEqual([id.toLowerCase(), id.toLowerCase(), id.toLowerCase(), undefined, undefined, undefined]);
});

it('marks what was searched for', () => {
  expect(marks('token "a b" -not service:x tok* ~"c d" /re/')).toEqual(['token', 'a b', 'tok', 'c d']);
  expect(marked('A token, a.b', ['token', 'a.b'])).toEqual(['A ', 'token', ', ', 'a.b', '']);
});
