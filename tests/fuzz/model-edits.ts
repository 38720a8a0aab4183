import fc from 'fast-check';

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Fields = Record<string, Json>;

/** The JSON files of a model's folder, by name. */
export type ModelFiles = Readonly<Record<string, Json>>;

const REGEX = [
  '(a+)+b',
  '(([\\w.])+)+!',
  '(\\s*)*x',
  '(?:a|a)+$',
  '(.)\\1+',
  '',
  'a?a?a?a?a?a?a?a?a+b',
  '[^x]+x',
  '.',
  '(?=a)',
];
const TYPES = [
  ...['BertNormalizer', 'Lowercase', 'NFC', 'NFD', 'NFKC', 'NFKD', 'Nmt', 'Precompiled', 'Prepend', 'Replace', 'Strip'],
  ...['StripAccents', 'BertPreTokenizer', 'ByteLevel', 'CharDelimiterSplit', 'Digits', 'FixedLength', 'Metaspace'],
  ...[
    'Punctuation',
    'Split',
    'Whitespace',
    'WhitespaceSplit',
    'BPEDecoder',
    'ByteFallback',
    'CTC',
    'Fuse',
    'WordPiece',
  ],
  ...[
    'TemplateProcessing',
    'BertProcessing',
    'RobertaProcessing',
    'BPE',
    'Unigram',
    'WordLevel',
    'Sequence',
    'toString',
  ],
];
const NUMBERS = [-1, 0, 0.5, 1, 7, 1000, 511, 512, 2 ** 24, 2 ** 31, 2 ** 53, 1e300];
const COUNTS = fc.constantFrom(2, 11, 40, 200, 3000);
/** The lists of a `Sequence`, by part. */
const LISTS: Readonly<Record<string, string>> = {
  normalizer: 'normalizers',
  pre_tokenizer: 'pretokenizers',
  decoder: 'decoders',
  post_processor: 'processors',
};

/** Changes a folder. */
type Edit = (files: ModelFiles) => ModelFiles;

/** Changes of a folder: of any place, or attacks on what the code does with it. */
export function edits(): fc.Arbitrary<Edit> {
  const places = fc.tuple(fc.nat(), fc.nat());
  const changed = fc.tuple(places, changes()).map(
    ([place, change]): Edit =>
      (files) =>
        changedAt(files, place, change),
  );
  return fc.oneof({ arbitrary: changed, weight: 3 }, { arbitrary: attacks(), weight: 2 });
}

/** Changes one place of one file. Tokenizers are chosen more often, and their vocabularies less. */
function changedAt(files: ModelFiles, [which, place]: [number, number], change: (value: Json) => Json): ModelFiles {
  const names = ['tokenizer.json', 'tokenizer.json', ...Object.keys(files)];
  const name = names[which % names.length] as string;
  const found = placesIn(files[name] as Json);
  return { ...files, [name]: withChange(files[name] as Json, found[place % found.length] ?? [], change) };
}

type Path = readonly string[];

/** The paths of a value's parts; of lists and vocabularies, the first three. */
function placesIn(value: Json, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  const names = Object.keys(value);
  const some = Array.isArray(value) || names.length > 40 ? names.slice(0, 3) : names;
  return [path, ...some.flatMap((name) => placesIn((value as Fields)[name] as Json, [...path, name]))];
}

function withChange(value: Json, [name, ...rest]: Path, change: (value: Json) => Json): Json {
  if (name === undefined) return change(value);
  if (typeof value !== 'object' || value === null) return value;
  const own = withChange((value as Fields)[name] ?? null, rest, change);
  return Array.isArray(value) ? value.with(Number(name), own) : { ...value, [name]: own };
}

/** Changes of any value. */
function changes(): fc.Arbitrary<(value: Json) => Json> {
  const text = fc.oneof(
    fc.constantFrom(...REGEX, ...TYPES, '__proto__', '▁', ' ', 'a', '\u0301', 'NewWord', '<mask>', '{{'),
    fc
      .tuple(fc.constantFrom('a', 'ab', '▁', '\ufdfa', ' '), fc.constantFrom(50, 5000, 100_000))
      .map(([one, n]) => one.repeat(n)),
  );
  const wrap = fc.constantFrom<((value: Json) => Json)[]>(
    (value) => [value],
    (value) => ({ type: 'Sequence', ...Object.fromEntries(Object.values(LISTS).map((list) => [list, [value]])) }),
    (value) => ({ content: value, type: 'Replace', pattern: { Regex: '(a+)+b' } }),
  );
  const nested = fc.tuple(fc.constantFrom(1, 2, 11, 40, 500), wrap).map(([times, own]) => (value: Json): Json => {
    let now = value;
    for (let depth = 0; depth < times; depth++) now = own(now);
    return now;
  });
  const repeated = COUNTS.map((times) => (value: Json): Json => {
    if (!Array.isArray(value))
      return typeof value === 'string' ? value.repeat(Math.min(times, 2 ** 20 / (value.length + 1))) : value;
    return value.length * times > 20_000 ? value : Array.from({ length: times }, () => value).flat();
  });
  const replaced = fc
    .oneof(text, fc.constantFrom(...NUMBERS), fc.constantFrom<Json[]>(null, true, [], {}, [null]))
    .map((own) => () => own);
  const within = fc.tuple(fc.constantFrom('a', ' ', '▁'), text).map(([from, to]) => (value: Json): Json => ({
    type: 'Replace',
    pattern: { String: from },
    content: to,
    inner: value,
  }));
  return fc.oneof(nested, repeated, { arbitrary: replaced, weight: 2 }, within);
}

/** Steps that multiply a text, its words, its tokens or the ways to match it. */
function attacks(): fc.Arbitrary<Edit> {
  const marks = Array.from('▁_xyz');
  const steps: readonly (readonly [part: string, step: (index: number) => Fields])[] = [
    ['normalizer', (index) => ({ type: 'Replace', pattern: { String: 'a' }, content: 'a'.repeat(2 + (index % 9)) })],
    ['normalizer', () => ({ type: 'Replace', pattern: { Regex: '' }, content: 'ab' })],
    ['normalizer', () => ({ type: 'Prepend', prepend: 'x'.repeat(1000) })],
    ['normalizer', () => ({ type: 'NFKD' })],
    ['normalizer', () => ({ type: 'Replace', pattern: { Regex: '[^x]+x' }, content: ' ' })],
    ['pre_tokenizer', () => ({ type: 'ByteLevel', add_prefix_space: true, use_regex: false })],
    ['pre_tokenizer', () => ({ type: 'ByteLevel', add_prefix_space: true })],
    [
      'pre_tokenizer',
      (index) =>
        index % 2 === 0
          ? { type: 'Split', pattern: { Regex: '.' }, behavior: 'Isolated' }
          : { type: 'Metaspace', replacement: marks[index % 5] ?? '▁', prepend_scheme: 'always' },
    ],
    ['pre_tokenizer', () => ({ type: 'Split', pattern: { Regex: '(a+)+b' }, behavior: 'Removed' })],
    ['pre_tokenizer', () => ({ type: 'Split', pattern: { Regex: 'a?a?a?a?a?a?a?a+b' }, behavior: 'Isolated' })],
    ['pre_tokenizer', () => ({ type: 'Metaspace', replacement: '▁'.repeat(500), prepend_scheme: 'first' })],
    ['decoder', () => ({ type: 'Replace', pattern: { Regex: '.' }, content: 'abcdefghij' })],
    ['decoder', () => ({ type: 'Metaspace', replacement: '' })],
    ['decoder', () => ({ type: 'WordPiece', prefix: '', cleanup: true })],
    ['post_processor', () => ({ type: 'TemplateProcessing', ...template(200) })],
    ['post_processor', () => ({ type: 'RobertaProcessing', sep: ['</s>', 1], cls: ['<s>', 0] })],
  ];
  const growing = fc
    .tuple(fc.constantFrom(...steps), COUNTS, fc.constantFrom(0, 11))
    .map(([[part, step], times, depth]): Edit => {
      const list = LISTS[part] as string;
      let value: Fields = { type: 'Sequence', [list]: Array.from({ length: times }, (_, index) => step(index)) };
      for (let at = 0; at < depth; at++) value = { type: 'Sequence', [list]: [value] };
      return (files) => ({ ...files, 'tokenizer.json': { ...fieldsOf(files['tokenizer.json']), [part]: value } });
    });
  const added = fc
    .tuple(COUNTS, fc.constantFrom(1, 300, 20_000), fc.boolean())
    .map(([count, length, normalized]): Edit => {
      const tokens = Array.from({ length: Math.min(count, 4e6 / length) }, (_, id) => {
        const content = `${String(id).padStart(4, '0')}${'a\ufdfa'.repeat(length)}`;
        return { id: 500, content, normalized, special: id % 2 === 0, lstrip: true, rstrip: true, single_word: false };
      });
      return (files) => ({
        ...files,
        'tokenizer.json': { ...fieldsOf(files['tokenizer.json']), added_tokens: tokens },
      });
    });
  const model = fc.constantFrom<Fields[]>(
    { unk_id: 0.5 },
    { unk_id: -1 },
    { unk_id: 2 ** 40 },
    { end_of_word_suffix: 'x'.repeat(1e6) },
    { end_of_word_suffix: 'x'.repeat(1900) },
    { continuing_subword_suffix: 'x'.repeat(1900) },
    { max_input_chars_per_word: 1e9 },
    { continuing_subword_prefix: 'x'.repeat(1900) },
    { byte_fallback: true, fuse_unk: true, unk_token: 'a'.repeat(1000) },
    { type: 'Unigram', vocab: Array.from({ length: 500 }, (_, size) => ['a'.repeat(size + 1), size]), unk_id: 0 },
    { type: 'BPE', vocab: { a: 0, b: 1 }, merges: Array.from({ length: 3000 }, () => 'a a') },
    { vocab: Array.from({ length: 500 }, () => [[['a']]]) },
    { type: 'WordLevel', vocab: { ['a'.repeat(1e6)]: 0 } },
  );
  const odd = model.map((fields): Edit => (files) => {
    const definition = fieldsOf(files['tokenizer.json']);
    return { ...files, 'tokenizer.json': { ...definition, model: { ...fieldsOf(definition.model), ...fields } } };
  });
  return fc.oneof({ arbitrary: growing, weight: 4 }, added, odd, hostileTemplates());
}

/** The fields of a value, which an earlier edit may have replaced. */
function fieldsOf(value: Json | undefined): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}

/** A template of n tokens, each of which stands for n others. */
function template(n: number): Fields {
  const tokens = Array.from({ length: n }, () => '<s>');
  const places = tokens.map(() => ({ SpecialToken: { id: 's', type_id: 0 } }));
  const single = [{ Sequence: { id: 'A', type_id: 0 } }, ...places];
  return { single, pair: single, special_tokens: { s: { id: 's', ids: tokens.map(() => 0), tokens } } };
}

/** Templates that multiply values, texts or loops. */
function hostileTemplates(): fc.Arbitrary<Edit> {
  const double = '{% set a=[a,a,a,a,a,a,a,a] %}';
  const uses = [
    '{{ a|tojson }}',
    '{{ a|string }}',
    '{{ a }}',
    '{{ a|join }}',
    '{{ a == a }}',
    '{% for b in a %}{{ b }}{% endfor %}',
  ];
  const nested = fc
    .tuple(fc.constantFrom(3, 9, 30), fc.constantFrom(...uses))
    .map(([times, use]) => `{% set a=[1,1] %}${double.repeat(times)}${use}`);
  const texts = fc
    .tuple(
      fc.constantFrom('{% set a = a ~ a %}', "{% set a = a|replace('a', 'aaaaaaaaaa') %}", '{% set a = a * 100 %}'),
      fc.constantFrom(5, 40),
    )
    .map(([step, times]) => `{% set a = 'aaaaaaaaaa' %}${step.repeat(times)}{{ a|length }}`);
  const loops = fc.tuple(fc.constantFrom(2, 6), fc.constantFrom(10, 1000)).map(([depth, n]) => {
    const open = Array.from({ length: depth }, (_, at) => `{% for i${at} in range(${n}) %}`);
    return `${open.join('')}x${'{% endfor %}'.repeat(depth)}`;
  });
  const deep = fc.constantFrom(10, 1000, 100_000).map((depth) => `{{ ${'('.repeat(depth)}1${')'.repeat(depth)} }}`);
  return fc.oneof(nested, texts, loops, deep).map((source): Edit => (files) => {
    const settings = fieldsOf(files['tokenizer_config.json']);
    const { chat_template: own } = { chat_template: '' as Json, ...settings };
    return {
      ...files,
      'tokenizer_config.json': { ...settings, chat_template: typeof own === 'string' ? source + own : source },
    };
  });
}
