/** What kind of module a site is. */
export type SiteKind = 'linear' | 'embedding' | 'layerNorm' | 'conv2d';

/** What a module does in a transformer layer: what methods that place by role go by. */
export type SiteRole =
  | 'attention.query'
  | 'attention.key'
  | 'attention.value'
  | 'attention.qkv'
  | 'attention.output'
  | 'ffn.in'
  | 'ffn.out'
  | 'head'
  | 'other';

/** A module of a model that a method may act on. A site is data: a method never sees the model. */
export interface Site {
  /** Dotted module path, as in the model's checkpoint. */
  readonly path: string;
  readonly kind: SiteKind;
  readonly role: SiteRole;
  /** Index of the transformer layer it belongs to. */
  readonly layer?: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly hasBias: boolean;
  /** Height and width of a convolution's kernel: it is linear on patches, `inFeatures` is height * width * channels, in this order. */
  readonly kernel?: readonly [number, number];
  /** Whether files hold its weight as [in, out], as the Conv1D of transformers has it; else a linear one is [out, in] there. */
  readonly fanInFanOut?: boolean;
  /** Whether it also reads what the rows of a batch share, e.g. positions: these rows cannot go by different adapters there. */
  readonly readsShared?: boolean;
}

/** Where a module stands in the network. */
export interface Place {
  readonly role?: SiteRole;
  readonly layer?: number;
}

/** y = x W + b, W [inFeatures, outFeatures]. */
export function linearSite(path: string, inFeatures: number, outFeatures: number, place: Place = {}): Site {
  return { path, kind: 'linear', role: 'other', ...place, inFeatures, outFeatures, hasBias: true };
}

/** Normalises, scales and shifts vectors of `width`. */
export function layerNormSite(path: string, width: number, place: Place = {}): Site {
  return { path, kind: 'layerNorm', role: 'other', ...place, inFeatures: width, outFeatures: width, hasBias: true };
}

/** A table [rows, width]. */
export function embeddingSite(path: string, rows: number, width: number): Site {
  return { path, kind: 'embedding', role: 'other', inFeatures: rows, outFeatures: width, hasBias: false };
}
