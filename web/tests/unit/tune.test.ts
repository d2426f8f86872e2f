import { expect, it } from 'vitest';
import { withException } from '../../src/lib/tune';

const BLOCK = "threadline:\n  exceptions:\n    - match: { 'a': 'b' }\n";
const A = 'title: A\nid: 0f6a-1\ndetection:\n  x: 1\n';
const B = "title: B\nid: '0f6a-2' # the second\nlevel: high\n";

it.each<[string, string, string, string | undefined]>([
  ['a rule alone', A, '0f6a-1', A + BLOCK],
  ['without a line end', A.trimEnd(), '0f6a-1', A + BLOCK],
  ['the first of two', `${A}---\n${B}`, '0f6a-1', `${A}${BLOCK}---\n${B}`],
  ['the second of two, quoted', `${A}--- # next\n${B}`, '0f6a-2', `${A}--- # next\n${B}${BLOCK}`],
  ['a longer id', A, '0f6a', undefined],
  ['none', A, 'x', undefined],
  ['an id of other characters', A, '.*', undefined],
  ['an id that is not the rule\'s', 'title: A\nrelated:\n  - id: 0f6a-1\n', '0f6a-1', undefined],
  ['one that has exceptions already', `${A}threadline:\n  risk: 9\n`, '0f6a-1', undefined],
  ['one beside another that has', `${A}---\n${B}threadline:\n  risk: 9\n`, '0f6a-1', `${A}${BLOCK}---\n${B}threadline:\n  risk: 9\n`],
])('an exception comes below its rule: %s', (_, rules, id, want) => {
  expect(withException(rules, id, BLOCK)).toBe(want);
});
