// Original file: proto/cluster.proto


export interface NodeRef {
  'name'?: (string);
  'advertise'?: (string);
  'proxy'?: (string);
  'region'?: (string);
}

export interface NodeRef__Output {
  'name': (string);
  'advertise': (string);
  'proxy': (string);
  'region': (string);
}
