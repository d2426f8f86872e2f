import { describe, expect, it } from 'vitest';
import { atByte, bySeq, condition, conditions, marked, marks, onOneLine, pieces, quoted, standing, toggled, traceId, unsearchable } from '../../src/lib/query';

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
    // A record has one value of a field: a second one is another that may be it.
    ['service:x', 'service', 'y', false, 'service:(x OR y)'],
    ['a service:x b', 'service', 'y z', false, 'a service:(x OR "y z") b'],
    ['service:(x OR y) b', 'service', 'z', false, 'service:(x OR y OR z) b'],
    ['service:(x OR y) b', 'service', 'x', false, 'service:y b'],
    ['service:(x OR "y")', 'service', 'y', false, 'service:x'],
    ['service:(x OR y)', 'service', 'x', true, 'service:y -service:x'],
    ['service:x', 'service', 'x', true, '-service:x'],
    ['-service:x b', 'service', 'y', false, '-service:x b service:y'],
    ['b -service:x service:y', 'service', 'x', false, 'b service:(y OR x)'],
    ['service:a service:b', 'service', 'c', false, 'service:(a OR b OR c)'],
    ['service:(a* OR b)', 'service', 'c', false, 'service:(a* OR b OR c)'],
    // Patterns, comparisons and what is not just alternatives stay as they are.
    ['service:a*', 'service', 'c', false, 'service:a* service:c'],
    ['severity>=warn', 'severity', 'error', false, 'severity>=warn severity:error'],
    ['x:(a b)', 'x', 'c', false, 'x:(a b) x:c'],
    ['x:(a OR NOT b)', 'x', 'c', false, 'x:(a OR NOT b) x:c'],
    ['xy:a', 'x', 'c', false, 'xy:a x:c'],
    ['@"odd name":a', '@"odd name"', 'b', false, '@"odd name":(a OR b)'],
    ['k:x', 'k', null, false, '-k:*'],
    ['-k:*', 'k', 'x', false, 'k:x'],
    ['"one phrase"', 'body', 'another', false, '"one phrase" "another"'],
  ])('%s with %s', (text, field, value, exclude, want) => expect(toggled(text, field, value, exclude)).toBe(want));

  it('knows what stands in a group', () => {
    const parts = conditions('service:(x OR "y z" OR q*) -service:w severity:error');
    expect(['x', 'y z', 'q*', 'w', 'v'].map((value) => standing(parts, 'service', value))).toEqual(['in', 'in', undefined, 'out', undefined]);
    expect(standing(parts, 'severity', 'error')).toBe('in');
  });

  it('several values of a field, in any order, go as they came', () => {
    const values = ['x', 'a b', 'OR', '(', '"', '\\', '*', '/', 'one\ntwo', 'a/ b\r\n(c)\\d', '-', '#&~'];
    let text = 'a "b c"';
    for (const value of values) {
      text = toggled(text, 'f', value);
      expect(conditions(text)?.length, text).toBe(3);
      expect(text).not.toMatch(/[\r\n]/);
    }
    for (const value of values) expect(standing(conditions(text), 'f', value), value).toBe('in');
    for (const value of values.toReversed()) {
      text = toggled(text, 'f', value);
      expect(standing(conditions(text), 'f', value), value).toBeUndefined();
    }
    expect(text).toBe('a "b c"');
  });

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

describe('a value of several lines', () => {
  it('is asked for by a regular expression on one line', () => {
    expect(condition('k', 'a\nb.c')).toBe('k:/\\Aa\\nb\\.c\\z/');
    expect(condition('body', 'a\r\nb', true)).toBe('-body:/\\Aa\\r\\nb\\z/');
    expect([unsearchable('a\nb'), unsearchable('a'.repeat(5000)), unsearchable(null)]).toEqual([undefined, undefined, undefined]);
    expect(unsearchable(`a\n${'b'.repeat(1100)}`)).toMatch(/several lines/);
  });
  it.each([
    ['a\nb', 'a b'],
    ['service:x\r\n severity:error', 'service:x  severity:error'],
    ['k:"a\nb" c', 'k:/\\Aa\\nb\\z/ c'],
    ['k:("a\nb" OR c)', 'k:(/\\Aa\\nb\\z/ OR c)'],
    ['"a\nb"', '/(?i)a\\nb/'],
    ['~"a\nb"', '/a\\nb/'],
    ['k:~"a\nb"', 'k:/a\\nb/'],
    ['"never\nclosed', '"never closed'],
    ['plain', 'plain'],
  ])('%j on one line', (text, want) => expect(onOneLine(text)).toBe(want));
});

it('asks for records by their numbers, in quarantine or not', () => {
  expect(bySeq([1, 2])).toBe('(seq:1 OR seq:2) (is:quarantined OR -is:quarantined)');
});
