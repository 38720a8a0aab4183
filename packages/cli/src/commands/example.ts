import { join } from 'node:path';
import { quoted } from '../format.js';
import { isForLanguage, type LabelledTask, type LoadedLanguageTask, type LoadedTask } from '../registry/tasks.js';

/** A text that every shell takes in double quotes as it is. */
const PLAIN = /^[\p{L}\p{N}][^"$`!%\\\p{C}]{0,79}$/u;

/** Returns arguments with which `predict` answers a held-out row of a task: the first whose texts every shell takes. */
export function exampleArguments(task: LoadedTask): string {
  if (!isForLanguage(task) && task.imagesIn !== undefined) {
    return quoted(join(task.imagesIn, textsOf(task.dev.rows[0] as LabelledRow)[0] as string));
  }
  const rows = isForLanguage(task) ? task.dev.rows.map((row) => [promptOf(row)]) : task.dev.rows.map(textsOf);
  const isPair = rows[0]?.length === 2;
  const found = rows.find((texts) => texts.every((text) => PLAIN.test(text)));
  const texts = found ?? ['some text', 'another text'].slice(0, isPair ? 2 : 1);
  return [...(isPair ? ['--pairs'] : []), ...texts.map((text) => `"${text}"`)].join(' ');
}

type LabelledRow = LabelledTask['dev']['rows'][number];

/** The texts of a row that a model reads together. */
function textsOf(row: LabelledRow): readonly string[] {
  if ('words' in row) return [row.words.join(' ')];
  if ('texts' in row) return row.texts.slice(0, 1);
  return row.pair === undefined ? [row.text] : [row.text, row.pair];
}

/** What a row asks, or the first words of a text. */
function promptOf(row: LoadedLanguageTask['dev']['rows'][number]): string {
  if ('text' in row) return row.text.trim().split(/\s+/).slice(0, 3).join(' ');
  const prompt = 'messages' in row ? row.messages : row.prompt;
  if (typeof prompt === 'string') return prompt;
  const asked = prompt.find(({ role }) => role === 'user')?.content;
  return typeof asked === 'string' ? asked : '';
}
