//! What sectors hold, each content under a number of its own.

use std::collections::HashMap;

use super::hash::Quick;

pub type ContentId = u32;

#[derive(Default)]
pub struct Contents {
    bytes: Vec<Box<[u8]>>,
    ids: HashMap<Box<[u8]>, ContentId, Quick>,
}

impl Contents {
    pub fn id_of(&mut self, bytes: &[u8]) -> ContentId {
        if let Some(&id) = self.ids.get(bytes) {
            return id;
        }
        let id = u32::try_from(self.bytes.len()).unwrap();
        self.bytes.push(bytes.into());
        self.ids.insert(bytes.into(), id);
        id
    }

    pub fn bytes(&self, id: ContentId) -> &[u8] {
        &self.bytes[id as usize]
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Rows of numbers, each under a number of its own. The empty row is 0.
pub struct Rows {
    rows: Vec<Box<[u32]>>,
    ids: HashMap<Box<[u32]>, u32, Quick>,
}

impl Rows {
    pub const EMPTY: u32 = 0;

    pub fn new() -> Self {
        let mut rows = Self {
            rows: Vec::new(),
            ids: HashMap::default(),
        };
        rows.id_of(&[]);
        rows
    }

    pub fn id_of(&mut self, row: &[u32]) -> u32 {
        if let Some(&id) = self.ids.get(row) {
            return id;
        }
        let id = u32::try_from(self.rows.len()).unwrap();
        self.rows.push(row.into());
        self.ids.insert(row.into(), id);
        id
    }

    pub fn get(&self, id: u32) -> &[u32] {
        &self.rows[id as usize]
    }
}
