import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { filesBelow, isSource, textOf } from './repository.js';

/** The characters that stand for classes and anchors in a text that a pattern nearly matches. */
const SAMPLES: Readonly<Record<string, string>> = {
  '.': 'a',
  '^': '',
  $: '',
  '\\d': '0',
  '\\D': 'a',
  '\\w': 'a',
  '\\W': '-',
  '\\s': ' ',
  '\\S': 'a',
  '\\b': '',
  '\\B': '',
  '\\n': '\n',
  '\\r': '\r',
  '\\t': '\t',
  '\\0': '\0',
};

/** A character that a set like [a-z] or \p{L} accepts. */
function memberOf(set: string, flags: string): string {
  const accepts = new RegExp(`^${set}$`, flags.replace(/[gy]/g, ''));
  return Array.from(`a0 -${set}\nA`).find((character) => accepts.test(character)) ?? '';
}

const TOKEN =
  /\[\^?(?:\\.|[^\]\\])*\]|\\[pP]\{[^}]*\}|\\u\{\w+\}|\\u\w{4}|\\x\w{2}|\\.|\((?:\?(?:<?[=!]|:|<\w+>))?|[)|]|[*+?]|\{\d+,?\d*\}|./gsu;

/** A text of a length: a beginning, a part that is repeated, and an end. */
type NearMatch = readonly [begun: string, part: string, end: string];

/** Texts that begin like matches of a pattern, and go on with one of its characters or with the beginning itself. */
function nearMatches({ source, flags }: RegExp): NearMatch[] {
  const texts: NearMatch[] = [['', '\n', '\0']];
  const groups: string[] = [];
  let begun = '';
  for (const token of source.match(TOKEN) ?? []) {
    if (token.startsWith('(')) groups.push(begun);
    else if (token === '|') begun = groups.at(-1) ?? '';
    else if (token === ')') groups.pop();
    if (/^[()|*+?]|^\{\d/.test(token)) continue;
    const isSet = /^(?:\[|\\[pPxu])/.test(token);
    const character = isSet ? memberOf(token, flags) : (SAMPLES[token] ?? token.replace('\\', ''));
    if (character === '') continue;
    texts.push(
      ['\0', character, '\0'],
      ['', character, '/'],
      [begun, character, '\0'],
      ['', begun + character, '\0'],
      ['', begun + character, '\n'],
    );
    begun += character;
  }
  return [...new Map(texts.map((text) => [JSON.stringify(text), text])).values()];
}

function milliseconds(run: () => unknown): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

/**
 * Whether a text ten times as long takes far more than ten times as long, again and again: a machine may pause once.
 */
function isSlow(run: (text: string) => unknown, [begun, part, end]: NearMatch): boolean {
  const [short, long] = [1e4, 1e5].map((length) => begun + part.repeat(length / part.length) + end) as [string, string];
  run(short); // the first run of a pattern is interpreted
  return [1, 2, 3].every(() => {
    const most = Math.max(50, 40 * milliseconds(() => run(short)));
    return milliseconds(() => run(long)) > most;
  });
}

function matched(pattern: RegExp, text: string): unknown {
  return pattern.global ? text.replace(pattern, '') : pattern.exec(text);
}

/** The patterns that a source writes as literals. */
function patternsIn(text: string): RegExp[] {
  const patterns: RegExp[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isRegularExpressionLiteral(node)) {
      const [, source = '', flags] = /^\/(.*)\/(\w*)$/s.exec(node.text) ?? [];
      patterns.push(new RegExp(source, flags));
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('source.ts', text, ts.ScriptTarget.Latest));
  return patterns;
}

const written = filesBelow('packages')
  .filter(isSource)
  .flatMap((path) => patternsIn(textOf(path)).map((pattern) => [path, pattern] as const));

describe('every pattern of a source takes linear time for texts that it nearly matches', () => {
  it.each(written)('%s: %s', (_, pattern) => {
    expect(nearMatches(pattern).filter((text) => isSlow((own) => matched(pattern, own), text))).toEqual([]);
  });
});
