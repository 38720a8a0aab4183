/** The kinds of modules that methods can adapt. */
export type SiteKind = 'linear' | 'embedding' | 'layerNorm' | 'conv2d';

/** The part a module plays in a transformer layer. Methods that choose modules by role read it. */
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

/** A module of a model that a method may adapt. It is plain data: a method never sees the model. */
export interface Site {
  /** Dotted module path, as in the model's checkpoint. */
  readonly path: string;
  /** The kind of the module, e.g. 'linear'. */
  readonly kind: SiteKind;
  /** The module's part in its transformer layer; 'other' outside one. */
  readonly role: SiteRole;
  /** The index of the transformer layer it belongs to; undefined outside one. */
  readonly layer?: number;
  /** The width of its input; of an embedding, the number of rows of its table. */
  readonly inFeatures: number;
  /** The width of its output. */
  readonly outFeatures: number;
  /** Whether the module has a bias `[outFeatures]`. */
  readonly hasBias: boolean;
  /**
   * Height and width of a convolution's kernel. A convolution is linear on patches: `inFeatures` is height * width *
   * channels, in this order.
   */
  readonly kernel?: readonly [number, number];
  /**
   * Whether checkpoints store its weight as [in, out], as transformers' Conv1D does. Otherwise a linear weight is
   * stored as [out, in].
   */
  readonly fanInFanOut?: boolean;
  /**
   * Whether it also reads values that all rows of a batch share, e.g. positions. The rows of a mixed batch cannot use
   * different adapters at such a module.
   */
  readonly readsShared?: boolean;
}

/** The position of a module in the network. */
export interface SitePosition {
  /** The part it plays in its layer. Default 'other'. */
  readonly role?: SiteRole;
  /** The index of its transformer layer. */
  readonly layer?: number;
}

/** Describes a linear module with a bias: y = x W + b, W [inFeatures, outFeatures]. */
export function linearSite(path: string, inFeatures: number, outFeatures: number, position: SitePosition = {}): Site {
  return { path, kind: 'linear', role: 'other', ...position, inFeatures, outFeatures, hasBias: true };
}

/** Describes a layer normalisation of vectors of `width`, with scale and bias. */
export function layerNormSite(path: string, width: number, position: SitePosition = {}): Site {
  return { path, kind: 'layerNorm', role: 'other', ...position, inFeatures: width, outFeatures: width, hasBias: true };
}

/** Describes an embedding table [rows, width]. */
export function embeddingSite(path: string, rows: number, width: number): Site {
  return { path, kind: 'embedding', role: 'other', inFeatures: rows, outFeatures: width, hasBias: false };
}
