/** What the page and its worker say to each other. */

/** A picture as a canvas takes it. */
export interface Samples {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue and alpha of each pixel. */
  readonly rgba: Uint8ClampedArray<ArrayBuffer>;
}

/** What is known of a file before the network has computed. */
export interface Opened {
  readonly kind: "opened";
  readonly preview: Samples;
  /** Each channel of the latents, and a line about it. */
  readonly channels: readonly { readonly picture: Samples; readonly caption: string }[];
  /** Names and values, as `sdc info` has them. */
  readonly facts: readonly (readonly [string, string])[];
  readonly width: number;
  readonly height: number;
}

export interface Progress {
  readonly kind: "progress";
  readonly done: number;
  readonly of: number;
}

export interface Finished {
  readonly kind: "finished";
  readonly picture: Samples;
  readonly milliseconds: number;
}

export interface Failed {
  readonly kind: "failed";
  readonly message: string;
}

export type Message = Opened | Progress | Finished | Failed;

export type FromWorker = Message & { readonly job: number };

export interface ToWorker {
  readonly job: number;
  readonly file: ArrayBuffer;
}
