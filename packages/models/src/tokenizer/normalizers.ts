/**
 * The normalisers of a tokenizer.json, as in Hugging Face's tokenizers 0.23. That library uses the tables of Unicode 8,
 * so characters added since 2016 may have another category there.
 */
import { field } from '../json.js';
import { byCharacter, inForm, part, withPrefix, withReplaced, type Aligned } from './aligned.js';
import { growthCheck, replaced, type GrowthCheck } from './growth.js';
import { precompiled } from './precompiled.js';
import { compiledPattern, stepsOf, type Kinds, type Normalizer } from './parts.js';

/** One change of a text. A step that inserts texts of any length checks its own growth. */
type Step = (text: Aligned, check: GrowthCheck) => Aligned;

/**
 * Returns the normaliser; null for a tokenizer without one. It throws a CheckpointError when it makes a text much
 * longer.
 * @throws CheckpointError when it is unknown or broken.
 */
export function normalizerOf(definition: unknown, file: string): Normalizer | null {
  if (definition === null || definition === undefined) return null;
  const steps = stepsOf(definition, { part: 'normalizer', list: 'normalizers', kinds: KINDS }, file);
  return (text) => {
    const check = growthCheck('normalizer', text.text.length, file);
    return steps.reduce((now, step) => {
      const next = step(now, check);
      check(next.text.length);
      return next;
    }, text);
  };
}

/** Returns a step that changes each character independently. */
function characterwise(change: (text: string) => string): Step {
  return (text) => byCharacter(text, change);
}

function form(name: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): Step {
  return (text) => inForm(text, name);
}

const KINDS: Kinds<Step> = {
  BertNormalizer: bertNormalizer,
  Lowercase: () => characterwise(lowercased),
  NFC: () => form('NFC'),
  NFD: () => form('NFD'),
  NFKC: () => form('NFKC'),
  NFKD: () => form('NFKD'),
  Nmt: () => characterwise(nmt),
  Precompiled: (definition, file) => precompiled(field(definition, 'precompiled_charsmap'), file),
  Prepend(definition) {
    const prefix = String(field(definition, 'prepend'));
    return (text) => (text.text === '' ? text : withPrefix(text, prefix));
  },
  Replace(definition, file) {
    const pattern = compiledPattern(field(definition, 'pattern'), file);
    const content = String(field(definition, 'content'));
    return (text, check) => withReplaced(text, replaced(text.text, pattern, content, check), pattern, content);
  },
  Strip(definition) {
    const [left, right] = ['strip_left', 'strip_right'].map((side) => field(definition, side) === true);
    const kept = (text: string): [from: number, to: number] => {
      const from = left ? (/^\p{White_Space}+/u.exec(text)?.[0].length ?? 0) : 0;
      return [from, right ? Math.max(from, endOf(text)) : text.length];
    };
    return (text) => part(text, ...kept(text.text));
  },
  StripAccents: () => characterwise((text) => text.replace(/\p{M}/gu, '')),
};

const BLANK = /\p{White_Space}/u;

/** Returns the end of a text without trailing blanks. A regular expression would restart at every blank. */
function endOf(text: string): number {
  let end = text.length;
  while (end > 0 && BLANK.test(text.charAt(end - 1))) end--;
  return end;
}

/** Lowercases character by character, so that a final sigma gets no special form. */
function lowercased(text: string): string {
  const lower = text.toLowerCase();
  return lower.includes('ς') ? Array.from(text, (character) => character.toLowerCase()).join('') : lower;
}

/** The characters to remove. Tabs, newlines and characters added to Unicode since 2016 stay. */
const CONTROLS = /(?![\t\n\r\u0890\u0891\u08e2\u{110cd}\u{13430}-\u{1343f}])[\ufffd\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu;

/**
 * Ideographs, each of which is a word. The range from U+2B920 on is Hugging Face's. (@huggingface/tokenizers 0.2.0
 * tests single UTF-16 units, so it misses those above U+FFFF.)
 */
const IDEOGRAPHS =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

function bertNormalizer(definition: unknown): readonly Step[] {
  const isOn = (name: string, otherwise = true): boolean => (field(definition, name) ?? otherwise) === true;
  const lowers = isOn('lowercase');
  const steps: readonly (readonly [boolean, ...Step[]])[] = [
    [isOn('clean_text'), characterwise((text) => text.replace(CONTROLS, '').replace(/\p{White_Space}/gu, ' '))],
    [isOn('handle_chinese_chars'), characterwise((text) => text.replace(IDEOGRAPHS, ' $& '))],
    [isOn('strip_accents', lowers), form('NFD'), characterwise((text) => text.replace(/\p{Mn}/gu, ''))],
    [lowers, characterwise(lowercased)],
  ];
  return steps.flatMap(([on, ...changes]) => (on ? changes : []));
}

/* oxlint-disable-next-line no-control-regex -- control characters are what it removes */
const NMT_REMOVED = /[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g;
const NMT_BLANKS = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;

/** Removes control characters and replaces special blanks, as in neural machine translation. */
function nmt(text: string): string {
  return text.replace(NMT_REMOVED, '').replace(NMT_BLANKS, ' ');
}
