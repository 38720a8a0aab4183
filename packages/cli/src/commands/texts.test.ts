import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import stringWidth from 'string-width';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { table } from './answers.js';
import { textBatches } from './texts.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peftjs-texts-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function textsIn(content: string | Uint8Array): Promise<string[]> {
  const file = join(folder, 'texts.txt');
  await writeFile(file, content);
  const read: string[] = [];
  for await (const batch of textBatches({ texts: [], file }, 2)) read.push(...batch.map(({ text }) => text));
  return read;
}

it('blank lines are empty texts, but nothing follows the last line break', async () => {
  expect(await textsIn('a\n \n\nb\n')).toEqual(['a', '', '', 'b']);
  expect(await textsIn('a\nb')).toEqual(['a', 'b']);
});

it.each(['', '\n', ' \n\t\n'])('a file without any text is refused: %j', async (content) => {
  await expect(textsIn(content)).rejects.toThrow(/texts\.txt: expected a text in each line, got none$/);
});

it.each([1, 40_000])(
  'bytes that are not UTF-8 are refused with the number of their line: after %d lines',
  async (lines) => {
    const content = Buffer.concat([Buffer.from('é\n'.repeat(lines)), Buffer.of(0xe9, 0x0a)]);
    await expect(textsIn(content)).rejects.toThrow(
      new RegExp(`texts\\.txt:${lines + 1}: expected UTF-8 text, got other bytes`),
    );
  },
);

it('the table has a blank line for an empty text', () => {
  const labels = [{ label: 'good', score: 1 }];
  expect(table(80)([{ text: 'a', labels }, { text: '' }, { text: 'b', labels }])).toBe(
    'good 1.000    a\n\ngood 1.000    b\n',
  );
});

it('the table keeps to the width of the terminal, with wide characters too', () => {
  const answered = ['very good indeed', '非常に満足しています'].map((label) => ({
    text: 'x'.repeat(80),
    labels: [{ label, score: 1 }],
  }));
  const lines = table(60)(answered).trimEnd().split('\n');
  expect(lines.map((line) => stringWidth(line))).toEqual([60, 60]);
  expect(lines.map((line) => stringWidth(line.replace(/x.*/, '')))).toEqual([28, 28]);
});
