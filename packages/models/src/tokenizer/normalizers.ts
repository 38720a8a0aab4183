/**
 * The normalisers of a tokenizer.json, as Hugging Face's tokenizers 0.23 computes them. Characters that Unicode has gained since 2016
 * may count as another kind of mark or punctuation there: its tables are of Unicode 8.
 */
import { field, listField } from '../json.js';
import { precompiled } from './precompiled.js';
import { compiledPattern, unknownPart } from './parts.js';

/** Changes a text before it is cut into words. */
export interface Normalizer {
  readonly type: string;
  /** Of a sequence. */
  readonly normalizers?: readonly Normalizer[];
  /** What is put before a text. */
  readonly prefix?: string;
  normalize(text: string): string;
}

type Change = Normalizer['normalize'];

/** @throws CheckpointError for one that is not known or broken. */
export function normalizerOf(definition: unknown, file: string): Normalizer | null {
  if (definition === null || definition === undefined) return null;
  const type = String(field(definition, 'type'));
  if (type === 'Sequence') {
    const normalizers = listField(definition, 'normalizers', file)
      .map((one) => normalizerOf(one, file))
      .filter((one) => one !== null);
    return { type, normalizers, normalize: (text) => normalizers.reduce((now, one) => one.normalize(now), text) };
  }
  const make = Object.hasOwn(KINDS, type) ? KINDS[type] : undefined;
  if (!make) throw unknownPart('normalizer', type, Object.keys(KINDS), file);
  const prefix = field(definition, 'prepend');
  return { type, normalize: make(definition, file), ...(typeof prefix === 'string' && { prefix }) };
}

const KINDS: Readonly<Record<string, (definition: unknown, file: string) => Change>> = {
  BertNormalizer: bertNormalizer,
  Lowercase: () => lowercased,
  NFC: () => (text) => text.normalize('NFC'),
  NFD: () => (text) => text.normalize('NFD'),
  NFKC: () => (text) => text.normalize('NFKC'),
  NFKD: () => (text) => text.normalize('NFKD'),
  Nmt: () => nmt,
  Precompiled: (definition, file) => precompiled(field(definition, 'precompiled_charsmap'), file),
  Prepend(definition) {
    const prefix = String(field(definition, 'prepend'));
    return (text) => (text === '' ? '' : prefix + text);
  },
  Replace(definition, file) {
    const pattern = compiledPattern(field(definition, 'pattern'), file);
    const content = String(field(definition, 'content'));
    return (text) => text.replace(pattern, () => content);
  },
  Strip(definition) {
    const [left, right] = ['strip_left', 'strip_right'].map((side) => field(definition, side) === true);
    return (text) => {
      const begun = left ? text.replace(/^\p{White_Space}+/u, '') : text;
      return right ? withoutEnd(begun) : begun;
    };
  },
  StripAccents: () => (text) => text.replace(/\p{M}/gu, ''),
};

const BLANK = /\p{White_Space}/u;

/** Cut from the end by hand: a regular expression would begin anew at every blank. */
function withoutEnd(text: string): string {
  let end = text.length;
  while (end > 0 && BLANK.test(text.charAt(end - 1))) end--;
  return text.slice(0, end);
}

/** Character by character: a sigma that ends a word is one like others. */
function lowercased(text: string): string {
  const lower = text.toLowerCase();
  return lower.includes('ς') ? Array.from(text, (character) => character.toLowerCase()).join('') : lower;
}

/** Characters that are removed, but for tab and newlines; those that Unicode has since 2016 stay. */
const CONTROLS = /(?![\t\n\r\u0890\u0891\u08e2\u{110cd}\u{13430}-\u{1343f}])[\ufffd\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu;

/** Ideographs, each of them a word; the range from U+2B920 on is Hugging Face's. */
const IDEOGRAPHS =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

function bertNormalizer(definition: unknown): Change {
  const isOn = (name: string, otherwise = true): boolean => (field(definition, name) ?? otherwise) === true;
  const lowers = isOn('lowercase');
  const steps: readonly (readonly [boolean, Change])[] = [
    [isOn('clean_text'), (text) => text.replace(CONTROLS, '').replace(/\p{White_Space}/gu, ' ')],
    [isOn('handle_chinese_chars'), (text) => text.replace(IDEOGRAPHS, ' $& ')],
    [isOn('strip_accents', lowers), (text) => text.normalize('NFD').replace(/\p{Mn}/gu, '')],
    [lowers, lowercased],
  ];
  const changes = steps.filter(([on]) => on).map(([, change]) => change);
  return (text) => changes.reduce((now, change) => change(now), text);
}

/* eslint-disable-next-line no-control-regex -- these are what is removed */
const NMT_REMOVED = /[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g;
const NMT_BLANKS = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;

/** What neural machine translation takes for nothing, and for blanks. */
function nmt(text: string): string {
  return text.replace(NMT_REMOVED, '').replace(NMT_BLANKS, ' ');
}
